"""Digests of a script's output files.

Model files are digested by their tensors and configuration: their bytes also hold times and memory addresses. Links are
digested by their target, all other files by their bytes.
"""

import fnmatch
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from samebits.core.digest import Digest
from samebits.core.jsonio import canonical_json, exact_float
from samebits.core.result import OutputFile
from samebits.runner.digests.tensors import tensor_digest

_VOLATILE = {"shared_object_id", "date_saved"}
"""Keys of a `.keras` archive that differ between equal models: an object's address and the time."""


def describe_outputs(folder: Path, ignore: tuple[str, ...]) -> tuple[tuple[OutputFile, ...], tuple[str, ...]]:
    """Path and digest of every output file, and the paths of those left out, sorted. `ignore` are patterns of paths."""
    files = sorted(_files(folder))
    left_out = [relative for relative, _ in files if any(fnmatch.fnmatchcase(relative, item) for item in ignore)]
    found = (_describe(relative, path, folder) for relative, path in files if relative not in left_out)
    return tuple(found), tuple(left_out)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        if path.is_symlink() or path.is_file():
            # A path need not be UTF-8, but the record is.
            yield os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace"), path


def _describe(relative: str, path: Path, folder: Path) -> OutputFile:
    # The target is relative to the outputs: an absolute one would contain the run's own path.
    if path.is_symlink():
        target = os.path.relpath(os.path.join(path.parent, path.readlink()), folder)
        return OutputFile(path=relative, by="link", digest=str(Digest.of_bytes(os.fsencode(target))))
    tensors = content_digest(path, path.suffix)
    if tensors is not None:
        return OutputFile(path=relative, by="tensors", digest=str(tensors))
    return OutputFile(path=relative, by="bytes", digest=str(Digest.of_file(path)))


def content_digest(path: Path, suffix: str) -> Digest | None:
    """The digest of what a model file holds, apart from times and addresses; None if its bytes count.

    `suffix` is that of its name, which a stored copy does not have.
    """
    readers = {".keras": _keras_content, ".h5": _hdf5_content, ".hdf5": _hdf5_content}
    reader = readers.get(suffix)
    if reader is not None:
        try:
            with path.open("rb") as file:
                return Digest.of_json(reader(file))
        except Exception:  # noqa: BLE001, S110  not a model file, despite its name: its bytes count
            pass
    return None


def _keras_content(file: BinaryIO) -> list[Any]:
    """The members of a Keras archive: tensors, configuration without volatile keys, or a digest of the bytes."""
    with zipfile.ZipFile(file) as archive:
        return [[name, _member(archive, name)] for name in sorted(archive.namelist())]


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    with archive.open(name) as member:
        if name.endswith(".h5"):
            return _hdf5_content(member)
        content = member.read()
    if name.endswith(".json"):
        return _without_volatile(json.loads(content))
    return str(Digest.of_bytes(content))


def _without_volatile(value: Any) -> Any:
    """JSON without the keys that change each time a model is saved."""
    if isinstance(value, dict):
        return {key: _without_volatile(item) for key, item in value.items() if key not in _VOLATILE}
    if isinstance(value, list):
        return [_without_volatile(item) for item in value]
    if isinstance(value, float):
        return exact_float(value)  # strict JSON has no NaN
    return value


def _hdf5_content(file: Any) -> list[Any]:
    """Every attribute, group and dataset of an HDF5 file, sorted by name."""
    import h5py

    with h5py.File(file, "r") as root:
        return list(_hdf5_items(root, ""))


def _hdf5_items(node: Any, path: str) -> Iterator[list[Any]]:
    import h5py

    for name in sorted(node.attrs):
        yield [f"{path}@{name}", _attribute(node.attrs[name])]
    if isinstance(node, h5py.Dataset):
        yield [path, str(node.dtype), list(node.shape), _dataset_digest(node)]
        return
    for name in sorted(node):
        yield from _hdf5_items(node[name], f"{path}/{name}")


def _dataset_digest(dataset: Any) -> str:
    if dataset.dtype.hasobject:  # strings of variable length
        return str(Digest.of_bytes(canonical_json(_attribute(dataset[()]))))
    return str(tensor_digest(dataset[()]))


def _attribute(value: Any) -> Any:
    """An attribute as JSON. A model's configuration, which is a JSON text, loses its volatile keys."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    # Keras stores the model's configuration as JSON text in an attribute.
    if isinstance(value, str):
        try:
            return _without_volatile(json.loads(value))
        except ValueError:
            return value
    # NumPy scalars and arrays become Python values.
    if hasattr(value, "tolist"):
        return _attribute(value.tolist())
    if isinstance(value, list):
        return [_attribute(item) for item in value]
    return repr(value)
