"""Checkpoints: the state of a training captured, written and restored."""
