"""Graphs that TensorFlow traced: their inputs, and operations, that a resumed run must find unchanged."""
