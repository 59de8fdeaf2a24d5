"""Digests of a script's output files.

Model files are digested by their tensors and configuration: their bytes also hold times and memory addresses. Links are
digested by their target, all other files by their bytes.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from samebits.core.digest import Digest
from samebits.core.jsonio import canonical_json
from samebits.core.model_json import archived_json, attribute_json
from samebits.core.output_walk import OncePerFile, link_digest, list_outputs, require_inside, unreadable
from samebits.core.result import OutputFile
from samebits.runner.digests.tensors import tensor_digest

_Read = OncePerFile[tuple[str, Digest]]
_MODELS = (".keras", ".h5", ".hdf5")


def describe_outputs(folder: Path, ignore: tuple[str, ...]) -> tuple[tuple[OutputFile, ...], tuple[str, ...]]:
    """Path and digest of every output file, and the paths of those left out, sorted. `ignore` are patterns of paths.

    Raises InputError for what cannot be read, or leads out of the run.
    """
    files, left_out = list_outputs(folder, ignore)
    once = _Read()
    return tuple(_describe(relative, path, folder, once) for relative, path in files), left_out


def _describe(relative: str, path: Path, folder: Path, once: _Read) -> OutputFile:
    if path.is_symlink():
        require_inside(relative, path, folder)
        return OutputFile(path=relative, by="link", digest=str(link_digest(path, folder)))
    try:
        by, digest = once.read(path, path.suffix if path.suffix in _MODELS else "", lambda: _digest(path))
    except OSError as error:
        raise unreadable(relative, error) from error
    return OutputFile(path=relative, by=by, digest=str(digest))


def _digest(path: Path) -> tuple[str, Digest]:
    tensors = content_digest(path, path.suffix)
    return ("bytes", Digest.of_file(path)) if tensors is None else ("tensors", tensors)


def content_digest(path: Path, suffix: str) -> Digest | None:
    """The digest of what a model file holds, apart from times and addresses; None if its bytes count.

    `suffix` is that of its name, which a stored copy does not have.
    """
    readers = dict(zip(_MODELS, (_keras_content, _hdf5_content, _hdf5_content), strict=True))
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
        return archived_json(name, content)
    return str(Digest.of_bytes(content))


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
    if isinstance(value, str):
        return attribute_json(value)
    # NumPy scalars and arrays become Python values.
    if hasattr(value, "tolist"):
        return _attribute(value.tolist())
    if isinstance(value, list):
        return [_attribute(item) for item in value]
    return repr(value)
