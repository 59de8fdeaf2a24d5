"""The written form of a digest; it is the sha256 that other programs compute."""

import subprocess
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import RecordError

_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_round_trip() -> None:
    digest = Digest.parse(f"sha256:{_EMPTY}")
    assert digest == Digest.of_bytes(b"")
    assert str(digest) == f"sha256:{_EMPTY}"
    assert digest.short == "e3b0c442"


@pytest.mark.parametrize(
    "text",
    [
        "",
        _EMPTY,
        f"sha256:{_EMPTY.upper()}",
        f"sha256:{_EMPTY[:-1]}",
        f"sha256:{_EMPTY}0",
        f"sha256:{_EMPTY}\n",
        f" sha256:{_EMPTY}",
        f"SHA256:{_EMPTY}",
        f"sha512:{_EMPTY}",
        f"sha256:{'g' * 64}",
    ],
)
def test_invalid_texts(text: str) -> None:
    with pytest.raises(RecordError) as caught:
        Digest.parse(text)
    assert str(caught.value) == f"not a digest: {text!r}; a digest is sha256: followed by 64 hex digits"


def test_other_programs_agree(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = bytes(range(256)) * 5000  # more than one block
    path.write_bytes(content)
    said = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert Digest.of_file(path) == Digest.of_bytes(content) == Digest(said)


def test_the_digest_of_json_covers_its_canonical_form() -> None:
    assert Digest.of_json({"b": 1, "a": "é"}) == Digest.of_bytes('{"a":"é","b":1}'.encode())
    assert Digest.of_json(1) != Digest.of_json(1.0)
