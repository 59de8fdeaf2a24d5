"""Reproducible Keras training: train a model in a pinned environment, and get the same bits again."""

# As in `typing`, whose import takes time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from samebits.loop import checkpoint

__all__ = ["checkpoint"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Imported on use: the command line must handle Ctrl-C before it imports anything that takes time.
    if name == "checkpoint":
        from samebits.loop import checkpoint

        return checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
