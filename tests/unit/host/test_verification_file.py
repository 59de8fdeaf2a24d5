"""`verification.json`: what is wrong with one is named by its path, and what a newer version adds is read."""

from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import RecordError
from samebits.host.runs.verification_file import (
    RecordedVerification,
    complete_verification,
    read_verification,
    write_verification,
)

_BODY: dict[str, Any] = {"verified": {"id": "20260801T101500Z-train"}, "verdict": "identical", "goal": "bitwise"}


def test_it_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "verification.json"
    values = complete_verification(_BODY)
    write_verification(path, values)
    assert read_verification(path) == RecordedVerification(
        verified="20260801T101500Z-train", verdict="identical", level="bitwise", values=values
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verified": {}}, "missing value in 'verified.id'"),
        ({"verified": "x"}, "'verified' must be dict, not 'x'"),
        ({"verdict": None}, "missing value in 'verdict'"),
        ({"goal": 1}, "'goal' must be str, not 1"),
        ({"version": "2.0"}, "verification version 2.0 is newer than this samebits reads (1.3); upgrade samebits"),
        ({"format": "x"}, "'format' is 'x'; the file is not a verification of a run"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "verification.json"
    write_verification(path, complete_verification(_BODY | changes))
    with pytest.raises(RecordError) as caught:
        read_verification(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_change_is_found(tmp_path: Path) -> None:
    path = tmp_path / "verification.json"
    write_verification(path, complete_verification(_BODY) | {"verdict": "different"})
    with pytest.raises(RecordError, match="the checksum does not match: the verification was changed"):
        read_verification(path)


def test_a_newer_minor_version(tmp_path: Path) -> None:
    path = tmp_path / "verification.json"
    write_verification(path, complete_verification(_BODY | {"version": "1.99", "added": [1]}))
    with pytest.warns(UserWarning, match=r"^verification version 1\.99 is newer than 1\.3; "):
        assert read_verification(path).values["added"] == [1]
