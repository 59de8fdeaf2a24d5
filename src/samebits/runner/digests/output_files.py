"""Digests of what a script wrote. Model files count by their tensors: their bytes hold times and memory addresses."""

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
"""Keys of a `.keras` archive that differ between equal models: an object's address, and the time."""


def describe_outputs(folder: Path, ignore: tuple[str, ...]) -> tuple[OutputFile, ...]:
    """Path, digest and way of digesting of every output file that counts, in the order of their paths."""
    found = []
    for path in folder.rglob("*"):
        relative = os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")
        counts = path.is_symlink() or path.is_file()
        if counts and not any(fnmatch.fnmatchcase(relative, pattern) for pattern in ignore):
            found.append(_describe(relative, path, folder))
    return tuple(sorted(found, key=lambda item: item.path))


def _describe(relative: str, path: Path, folder: Path) -> OutputFile:
    if path.is_symlink():  # by where it leads within the outputs, as an absolute target would name the run
        target = os.path.relpath(os.path.join(path.parent, path.readlink()), folder)
        return OutputFile(path=relative, by="link", digest=str(Digest.of_bytes(os.fsencode(target))))
    readers = {".keras": _keras_content, ".h5": _hdf5_content, ".hdf5": _hdf5_content}
    reader = readers.get(path.suffix)
    if reader is not None:
        try:
            with path.open("rb") as file:
                return OutputFile(path=relative, by="tensors", digest=str(Digest.of_json(reader(file))))
        except Exception:  # noqa: BLE001, S110  no model file for all its name, in one of many ways: its bytes count
            pass
    return OutputFile(path=relative, by="bytes", digest=str(Digest.of_file(path)))


def _keras_content(file: BinaryIO) -> list[Any]:
    """The members of a Keras archive, each by what it means."""
    with zipfile.ZipFile(file) as archive:
        return [[name, _member(archive, name)] for name in sorted(archive.namelist())]


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    with archive.open(name) as member:
        if name.endswith(".h5"):
            return _hdf5_content(member)
        content = member.read()
    if name.endswith(".json"):
        return _steady(json.loads(content))
    return str(Digest.of_bytes(content))


def _steady(value: Any) -> Any:
    """JSON without the keys that change from save to save."""
    if isinstance(value, dict):
        return {key: _steady(item) for key, item in value.items() if key not in _VOLATILE}
    if isinstance(value, list):
        return [_steady(item) for item in value]
    if isinstance(value, float):
        return exact_float(value)  # JSON proper has no NaN
    return value


def _hdf5_content(file: Any) -> list[Any]:
    """Every attribute, group and dataset of an HDF5 file, in the order of their names."""
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
    if dataset.dtype.hasobject:  # strings of any length
        return str(Digest.of_bytes(canonical_json(_attribute(dataset[()]))))
    return str(tensor_digest(dataset[()]))


def _attribute(value: Any) -> Any:
    """An attribute as JSON; a model's configuration, which is JSON itself, without what changes."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str):
        try:
            return _steady(json.loads(value))
        except ValueError:
            return value
    if hasattr(value, "tolist"):
        return _attribute(value.tolist())
    if isinstance(value, list):
        return [_attribute(item) for item in value]
    return repr(value)
