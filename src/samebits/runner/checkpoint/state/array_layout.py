"""How an array's elements lie in memory. NumPy's sums, products and files depend on it."""

from collections.abc import Sequence
from typing import Any


def strides_of(array: Any) -> list[int] | None:
    """The steps in memory along each axis, in bytes; None for a row-major array without gaps."""
    if array.flags.c_contiguous:
        return None
    # Along an axis of one element, a step means nothing.
    return [0 if size == 1 else int(step) for size, step in zip(array.shape, array.strides, strict=True)]


def described_array(array: Any) -> str:
    """An array's class, type and shape, for one whose content does not change; of others the class."""
    import numpy as np

    about = f" {array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else ""
    return f"{type(array).__module__}:{type(array).__qualname__}{about}"


def with_strides(array: Any, strides: Sequence[int]) -> Any:
    """A copy of an array with these steps in memory, as `strides_of` found them; gaps are zero."""
    import numpy as np

    spans = [(size - 1) * step for size, step in zip(array.shape, strides, strict=True)]
    start = -sum(span for span in spans if span < 0)
    memory = np.zeros(start + sum(span for span in spans if span > 0) + array.dtype.itemsize, "uint8")
    found = np.ndarray(array.shape, array.dtype, memory, start, tuple(strides))
    # Elements that share their memory are equal.
    found[...] = array
    return found


def restored_array(saved: Any, live: Any) -> Any:
    """The live array with the saved content, where it lies in memory in the same way; else a saved one of its class."""
    import numpy as np

    if not isinstance(live, np.ndarray):
        return saved
    saved = saved if isinstance(live, np.memmap) else saved.view(type(live))
    if (live.shape, live.dtype) != (saved.shape, saved.dtype):
        return saved
    if strides_of(live) != strides_of(saved):
        return saved
    # Equal arrays are not written to: the script may share them, or have made them read-only.
    if not np.array_equal(*(np.asarray(array).reshape(-1).view("uint8") for array in (live, saved))):
        if not live.flags.writeable:
            return saved
        live[...] = saved
    return live if _is_as_writeable(live, saved) else saved


def _is_as_writeable(live: Any, saved: Any) -> bool:
    """Make a live array read-only where the saved one is, and writeable again where it is not and that can be done."""
    # The memory of a part may be that of bytes, which NumPy would let be written to.
    if live.base is None or not saved.flags.writeable:
        live.flags.writeable = saved.flags.writeable
    return bool(live.flags.writeable == saved.flags.writeable)
