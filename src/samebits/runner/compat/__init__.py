"""The only door to private names of Keras, TensorFlow, NumPy and CPython, and to patches of them."""
