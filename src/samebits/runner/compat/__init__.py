"""Compatibility: the only place that uses private names of Keras, TensorFlow, NumPy and CPython."""
