"""A record of a newer minor version: what it adds is covered by its digests, and never lost."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.digest import Digest, with_checksum
from samebits.core.errors import RecordError
from samebits.core.jsonio import readable_json
from samebits.core.recipe import differing_parts
from samebits.core.record import RECORD_VERSION, LedgerEnd, Record, finalize, interrupted, read_record, write_record
from support.command import DATA

NEWEST = max(DATA.glob("record-*.json"))


def _inside(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _finalized(value: dict[str, Any], **changes: object) -> dict[str, Any]:
    return with_checksum({name: item for name, item in {**value, **changes}.items() if name != "seal"})


def test_a_newer_minor_version_is_read_with_a_warning(value: dict[str, Any], example: Record) -> None:
    newer = _finalized(value, version="1.99", weather="fine")
    with pytest.warns(
        UserWarning, match=rf"^record version 1\.99 is newer than {RECORD_VERSION}; new fields in it are not shown$"
    ):
        assert Record.from_dict(newer) == example


def _complete(value: dict[str, Any]) -> dict[str, Any]:
    """With all digests taken again, as a newer version would have written it."""
    recipe, result = (str(Digest.of_json(value[name])) for name in ("recipe", "result"))
    return _finalized(value, recipe_digest=recipe, result_digest=result)


_LEVELS: list[tuple[str | int, ...]] = [
    (),
    ("recipe",),
    ("recipe", "image"),
    ("outcome",),
    ("origin",),
    ("environment",),
    ("environment", "cpu"),
    ("environment", "settings", 0),
    ("environment", "fingerprint"),
    ("result",),
    ("result", "models", 0),
    ("result", "models", 0, "tensors", "trainable", 0),
    ("result", "fits", 0),
    ("result", "outputs", 0),
    ("ledger",),
    ("timings",),
]


@pytest.mark.filterwarnings("ignore:record version 1.99 is newer")
@pytest.mark.parametrize("level", _LEVELS)
def test_a_field_that_a_newer_minor_version_adds(level: tuple[str | int, ...]) -> None:
    """It is covered by the digests, as everything is: read where they match, and refused where it was changed."""
    value = json.loads(NEWEST.read_bytes())
    _inside(value, level)["added"] = {"by": ["1.99"], "much": 1}
    newer = _complete(value | {"version": "1.99"})
    found = Record.from_dict(newer)
    assert found == read_record(NEWEST)
    assert str(found.recipe.digest) == newer["recipe_digest"]
    assert str(found.result_digest) == newer["result_digest"]
    _inside(newer, level)["added"]["much"] = 1.0
    with pytest.raises(
        RecordError, match=r"^the checksum does not match: the record was changed after it was written$"
    ):
        Record.from_dict(newer)


@pytest.mark.filterwarnings("ignore:record version 1.99 is newer")
@pytest.mark.parametrize(("part", "digest"), [("recipe", "recipe_digest"), ("result", "result_digest")])
def test_an_added_field_belongs_to_what_it_is_in(value: dict[str, Any], part: str, digest: str) -> None:
    """Who can write the file can write its checksum; the digest that names recipe or result must still agree."""
    value["version"] = "1.99"
    value[part]["added"] = 1
    with pytest.raises(RecordError, match=f"^'{digest}' does not belong to what it names$"):
        Record.from_dict(_finalized(value))


@pytest.mark.filterwarnings("ignore:record version 1.99 is newer")
def test_an_added_field_counts_where_recipes_are_compared(value: dict[str, Any], example: Record) -> None:
    value["recipe"]["image"]["compiler"] = "llvm"
    newer = Record.from_dict(_complete(value | {"version": "1.99"}))
    assert differing_parts(example.recipe, newer.recipe) == ["image.compiler"]
    assert newer.recipe.digest != example.recipe.digest
    assert replace(newer.recipe, seed=newer.recipe.seed).digest == example.recipe.digest


@pytest.mark.filterwarnings("ignore:record version 1.99 is newer")
@pytest.mark.parametrize("level", [level for level in _LEVELS if level[:1] != ("ledger",)])
@pytest.mark.parametrize("write", [write_record, finalize])
def test_a_newer_running_record_keeps_what_is_new(
    level: tuple[str | int, ...], write: Callable[[Path, Record], None], tmp_path: Path
) -> None:
    """A runner or a launcher of today goes on with the record of a newer one."""
    path = tmp_path / "record.json"
    value = json.loads(NEWEST.read_bytes()) | {"ledger": None}
    value["outcome"]["state"] = "running"
    _inside(value, level)["added"] = {"by": ["1.99"], "much": 1}
    path.write_bytes(readable_json(_complete(value | {"version": "1.99"})))
    ended = replace(interrupted(read_record(path), "power was lost"), ledger=LedgerEnd(lines=1, last="sha256:0"))
    write(path, ended)
    found = json.loads(path.read_bytes())
    assert read_record(path) == ended
    assert found["version"] == "1.99"
    assert found["outcome"]["message"] == "power was lost"
    assert _inside(found, level)["added"] == {"by": ["1.99"], "much": 1}


def test_a_record_for_an_older_runner(running: Record, tmp_path: Path) -> None:
    """It would refuse a newer version than its own."""
    path = tmp_path / "record.json"
    write_record(path, running, "1.3")
    assert json.loads(path.read_bytes())["version"] == "1.3"
    assert read_record(path) == running
    write_record(path, running, "1.99")
    assert json.loads(path.read_bytes())["version"] == RECORD_VERSION
