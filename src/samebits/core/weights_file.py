"""What a model file holds: Keras's archives, and HDF5 files, read by `hdf5_reader`.

`None` stands for anything else than Keras writes.
"""

import os
import struct
import zipfile
from collections import Counter
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.core.hdf5_reader import ERRORS, MAX_JSON, Hdf5Reader, Tensor, UnknownFormError
from samebits.core.model_json import archived_json
from samebits.core.run_files import open_plain

_WEIGHTS = "model.weights.h5"  # in a `.keras` archive
_MAX_MEMBER = 256 << 20  # of an archive, apart from its weights
_ERRORS = (*ERRORS, zipfile.BadZipFile)


def stored_tensors(path: Path, within: Path) -> Counter[Tensor] | None:
    """Every array in a model's `.keras` or `.h5` file, with how often it is there; None if there is no such file."""
    try:
        with open_plain(path, within) as file:
            return Counter(item for item in _reader(path, file).items() if isinstance(item, tuple))
    except _ERRORS:
        return None


def stored_places(path: Path, within: Path) -> dict[str, tuple[int, int]]:
    """Where in a model's file the bytes of its arrays lie: place and number of bytes, by the written digest.

    Only those before what is not of Keras's form.
    """
    found: dict[str, tuple[int, int]] = {}
    with suppress(*_ERRORS), open_plain(path, within) as file:
        found.update(_reader(path, file).places())
    return found


def _reader(path: Path, file: BufferedReader) -> Hdf5Reader:
    return _in_archive(file) if path.suffix == ".keras" else Hdf5Reader(file, 0, os.fstat(file.fileno()).st_size)


def stored_content(path: Path, within: Path) -> Digest | None:
    """The digest of a model file's content, as the runner takes it with HDF5's library; None if it cannot be read."""
    try:
        with open_plain(path, within) as file:
            if path.suffix != ".keras":
                return Digest.of_json(_listed(_reader(path, file)))
            with zipfile.ZipFile(file) as archive:
                return Digest.of_json(_members(archive, file))
    except _ERRORS:
        return None


def _members(archive: zipfile.ZipFile, file: BufferedReader) -> list[list[Any]]:
    if sum(info.file_size for info in archive.infolist() if info.filename.endswith(".json")) > MAX_JSON:
        raise UnknownFormError
    return [[name, _member(archive, file, name)] for name in sorted(archive.namelist())]


def _member(archive: zipfile.ZipFile, file: BufferedReader, name: str) -> Any:
    info = archive.getinfo(name)
    if name.endswith(".h5"):
        return _listed(_region(file, info))
    # Keras compresses nothing, and what is compressed may become as large as its author likes.
    if info.file_size > _MAX_MEMBER or info.compress_type != zipfile.ZIP_STORED:
        raise UnknownFormError
    with archive.open(info) as member:
        content = member.read(_MAX_MEMBER + 1)
    return archived_json(name, content) if name.endswith(".json") else str(Digest.of_bytes(content))


def _in_archive(file: BufferedReader) -> Hdf5Reader:
    with zipfile.ZipFile(file) as archive:
        return _region(file, archive.getinfo(_WEIGHTS))


def _region(file: BufferedReader, member: zipfile.ZipInfo) -> Hdf5Reader:
    """A member of an archive that is not compressed, as Keras compresses nothing."""
    file.seek(member.header_offset)
    header = file.read(30)
    if member.compress_type != zipfile.ZIP_STORED or header[:4] != b"PK\x03\x04":
        raise UnknownFormError
    name, extra = struct.unpack_from("<HH", header, 26)
    return Hdf5Reader(file, member.header_offset + 30 + name + extra, member.file_size)


def _listed(reader: Hdf5Reader) -> list[list[Any]]:
    """Every attribute and array, in the order of their names."""
    found: list[list[Any]] = []
    for path, item in reader.named():
        if isinstance(item, tuple):
            found.append([path, item[0], list(item[1]), item[2]])
        else:
            found.append([path, item[0]])
    return found
