"""Files that TensorFlow and HDF5 open in C, where no audit hook sees them: noted by the names given in Python.

A name that only a graph computes is not known. Pipelines are often made from lists of file names, which are.
"""

import functools
import inspect
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from samebits.core.script_uses import FILE, FOLDER
from samebits.runner.compat.patches import Patches

_MAX_NAMES = 10_000  # of one list of file names
_WRITING = ("w", "a", "x")
WRITTEN = "written file"
"""A file that is opened for writing."""

Note = Callable[[str, str], None]
"""Called with `FILE`, `FOLDER` or `WRITTEN`, and the path."""


@dataclass(frozen=True, slots=True)
class _Reader:
    """A function that reads what its argument at `position` names, with a `suffix` if it is a prefix.

    Where not all texts are names, `absolute` leaves out those that are no absolute paths.
    """

    owner: Any
    name: str
    position: int = 0
    kind: str = FILE
    suffix: str = ""
    absolute: bool = False


def watch_library_reads(note: Note, patches: Patches) -> None:
    """Note what these functions are asked to read, until the patches are undone."""
    for reader in (*_tensorflow(), *_hdf5()):
        wrapped = _noting(reader, note, getattr(reader.owner, reader.name))
        static = isinstance(inspect.getattr_static(reader.owner, reader.name), staticmethod)
        patches.replace(reader.owner, reader.name, staticmethod(wrapped) if static else wrapped)


def _tensorflow() -> Iterator[_Reader]:
    import tensorflow as tf

    gfile, data = tf.io.gfile, tf.data
    for owner in (gfile.GFile, data.TFRecordDataset, data.TextLineDataset, data.FixedLengthRecordDataset):
        yield _Reader(owner, "__init__", 1)
    yield from (_Reader(gfile, name, kind=FOLDER) for name in ("listdir", "walk"))
    yield from (_Reader(gfile, name) for name in ("copy", "glob"))
    yield from (_Reader(data.Dataset, name, absolute=True) for name in ("from_tensor_slices", "from_tensors"))
    yield _Reader(data.Dataset, "list_files")
    yield from (_Reader(tf.io, name) for name in ("read_file", "matching_files"))
    yield _Reader(tf.saved_model, "load", kind=FOLDER)
    yield _Reader(tf.train, "load_checkpoint", suffix=".index")
    yield from (_Reader(tf.train.Checkpoint, name, 1, suffix=".index") for name in ("read", "restore"))


def _hdf5() -> Iterator[_Reader]:
    import h5py

    yield _Reader(h5py.File, "__init__", 1)


def _noting(reader: _Reader, note: Note, original: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    @functools.wraps(original)
    def noting(*args: Any, **kwargs: Any) -> Any:
        given = args[reader.position] if len(args) > reader.position else next(iter(kwargs.values()), None)
        writes = _writes(args, kwargs, reader)
        for path in itertools.islice(_paths(given), _MAX_NAMES):
            if writes:
                note(WRITTEN, path)
            elif os.path.isabs(path) or not reader.absolute:
                note(*_read_by(reader, path))
        return original(*args, **kwargs)

    wrapper: Callable[..., Any] = tf.autograph.experimental.do_not_convert(noting)
    return wrapper


def _writes(args: Sequence[Any], kwargs: dict[str, Any], reader: _Reader) -> bool:
    """Whether a mode after the name says that the file is made."""
    after = reader.position + 1
    mode = kwargs.get("mode", args[after] if len(args) > after else None)
    return isinstance(mode, str) and mode.startswith(_WRITING) and reader.name == "__init__"


def _read_by(reader: _Reader, path: str) -> tuple[str, str]:
    """The file or folder that is read; for a pattern, the folder in which its first `*` is looked for."""
    before, sign, _ = path.partition("*")
    return (FOLDER, os.path.dirname(before) or ".") if sign else (reader.kind, path + reader.suffix)


def _paths(value: Any) -> Iterator[str]:
    """The paths in what a library takes for file names; of symbolic tensors only the constant ones."""
    import numpy as np

    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (str, bytes, os.PathLike)):
        yield os.fsdecode(value)
    elif isinstance(value, tuple) or _is_list_of_names(value):
        yield from itertools.chain.from_iterable(map(_paths, value))
    elif isinstance(value, np.ndarray) and value.dtype.kind in "USO":
        yield from itertools.chain.from_iterable(map(_paths, value.flat))
    elif getattr(value, "dtype", None) == "string":
        yield from _paths(_static_value(value))


def _is_list_of_names(value: Any) -> bool:
    # By its first item, as a list may hold a million numbers.
    return isinstance(value, list) and bool(value) and isinstance(value[0], (str, bytes, os.PathLike))


def _static_value(tensor: Any) -> Any:
    """A tensor's value as an array or bytes; None where it is not known yet."""
    import tensorflow as tf

    return tf.get_static_value(tensor)
