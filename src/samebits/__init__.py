"""Train a Keras model in a pinned container, and get the same bits again."""

__version__ = "0.1.0"
