"""Model files that someone has made to harm the reader: nothing is reported of them, and little memory is taken."""

import os
import struct
import zipfile
from pathlib import Path

import h5py
import pytest

from samebits.core import weights_file
from samebits.core.weights_file import stored_content, stored_tensors


def keras(path: Path, compression: int, config: bytes) -> Path:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["x"] = [1.0]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config, compression)
        archive.write(path.with_suffix(".h5"), "model.weights.h5")
    return path


def test_an_archive_as_keras_writes_it(tmp_path: Path) -> None:
    assert stored_content(keras(tmp_path / "m.keras", zipfile.ZIP_STORED, b"{}"), tmp_path) is not None


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_members_are_not_unpacked(tmp_path: Path, compression: int) -> None:
    """Whether they are damaged or not."""
    path = keras(tmp_path / "m.keras", compression, b"{}")
    assert stored_content(path, tmp_path) is None
    content = bytearray(path.read_bytes())
    content[41:44] = b"\xff\xff\xff"  # after the header of 30 bytes, and the name of 11
    path.write_bytes(content)
    assert stored_content(path, tmp_path) is None


def test_much_json(tmp_path: Path) -> None:
    path = keras(tmp_path / "m.keras", zipfile.ZIP_STORED, b"{}".ljust(17 << 20))
    assert stored_content(path, tmp_path) is None


def test_long_texts(tmp_path: Path) -> None:
    """All texts together are limited: many attributes may name one."""
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for name in "ab":
            file.attrs[name] = "x" * (9 << 20)
    assert stored_content(tmp_path / "m.h5", tmp_path) is None


def test_a_file_of_holes(tmp_path: Path) -> None:
    """It is as large as it says, and its disk is empty."""
    path = tmp_path / "m.h5"
    with h5py.File(path, "w"):
        pass
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, struct.unpack_from("<Q", content, 64)[0] + 8, 65 << 20)
    path.write_bytes(content)
    os.truncate(path, 1 << 40)
    assert stored_tensors(path, tmp_path) is None


def test_memory_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise MemoryError

    path = keras(tmp_path / "m.keras", zipfile.ZIP_STORED, b"{}")
    monkeypatch.setattr(weights_file, "open_plain", none_left)
    assert stored_content(path, tmp_path) is None
    assert stored_tensors(path, tmp_path) is None
