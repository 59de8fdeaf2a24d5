"""Reproducible Keras training: train a model in a pinned environment, and get the same bits again."""

from samebits.loop import checkpoint

__all__ = ["checkpoint"]
__version__ = "0.1.0"
