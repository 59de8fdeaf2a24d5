"""Files of several blocks, hashed in a second thread: each changed byte is found, and each digest is right."""

import hashlib
import random
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError
from samebits.host.capsule.archive import Archive, Source, write_archive
from samebits.host.capsule.contents import Contents, Member

BLOCK = 1 << 20


def _pack(folder: Path, content: bytes, digest: Digest | None) -> Contents:
    (folder / "layer").write_bytes(content)
    source = Source(member=Member(path="data/layer", size=len(content), digest=digest), path=folder / "layer")
    contents = Contents(
        run="r", record="r", recipe="r", result=None, image=None, without=(), left_out=(), members=(source.member,)
    )
    return write_archive(folder / "a.tar", contents, [source], lambda *_: None)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return b"".join(block for _, blocks in Archive(file, "it").files() for block in blocks)


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_the_digest_of_large_files(tmp_path: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    (member,) = _pack(tmp_path, content, None).members
    assert member.digest == Digest(hashlib.sha256(content).hexdigest())
    assert _read(tmp_path / "a.tar") == content


@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, 3 * BLOCK - 1, 3 * BLOCK, 3 * BLOCK + 6])
def test_a_changed_byte_of_a_large_file(tmp_path: Path, place: int) -> None:
    content = bytearray(random.Random(1).randbytes(3 * BLOCK + 7))
    digest = Digest(hashlib.sha256(content).hexdigest())
    _pack(tmp_path, bytes(content), digest)
    packed = bytearray((tmp_path / "a.tar").read_bytes())
    packed[packed.index(content[:64]) + place] ^= 1
    (tmp_path / "a.tar").write_bytes(packed)
    with pytest.raises(RecordError, match=r"^it was changed after it was packed: data/layer has another digest"):
        _read(tmp_path / "a.tar")
    content[place] ^= 1
    with pytest.raises(InputError, match="is not the file of the run any more"):
        _pack(tmp_path, bytes(content), digest)
