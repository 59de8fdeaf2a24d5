"""Train a Keras model in a pinned container, and get the same bits again."""

from samebits.loop import checkpoint

__all__ = ["checkpoint"]
__version__ = "0.1.0"
