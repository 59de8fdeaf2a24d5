"""The record file: it comes back as it was written, is sealed once, and no change to it goes unseen."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.core.checkpoint_store import Position
from samebits.core.digest import Digest
from samebits.core.errors import RecordError
from samebits.core.jsonio import readable_json
from samebits.core.record import (
    FINISHED,
    RECORD_VERSION,
    RUNNING,
    STATES,
    Outcome,
    Record,
    Resumability,
    finalize,
    interrupted,
    read_record,
    summary,
    write_record,
)
from samebits.core.retention import RetentionPolicy
from samebits.core.trace_level import Trace
from support.command import EXAMPLE
from support.records import resumed

_UPGRADE = f"({RECORD_VERSION}); upgrade samebits"
COMMITTED = sorted(EXAMPLE.parent.glob("record-*.json"))


def _resealed(value: dict[str, Any], **changes: object) -> dict[str, Any]:
    body = {name: item for name, item in {**value, **changes}.items() if name != "seal"}
    return body | {"seal": str(Digest.of_json(body))}


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_every_committed_version_is_read(path: Path) -> None:
    record = read_record(path)
    assert Record.from_dict(record.to_dict()) == record
    assert record.finalized
    assert (
        str(record.result_digest) == record.to_dict()["result_digest"] == json.loads(path.read_bytes())["result_digest"]
    )


def test_the_newest_committed_file_round_trips() -> None:
    newest = COMMITTED[-1]
    assert newest.stem == f"record-{RECORD_VERSION}"
    assert readable_json(read_record(newest).to_dict()) == newest.read_bytes()


def test_what_version_1_0_does_not_hold(example: Record) -> None:
    assert "trace" not in json.loads(EXAMPLE.read_bytes())
    assert example.trace == Trace()
    assert read_record(COMMITTED[-1]).trace == Trace(level="step")


def test_what_came_with_version_1_2() -> None:
    for path in COMMITTED[:2]:
        record = read_record(path)
        assert (record.retention, record.resumable) == (RetentionPolicy(keep="none"), None), path
    newest = read_record(COMMITTED[2])
    assert newest.retention == RetentionPolicy(keep="every:5", every=100)
    assert newest.resumable == Resumability(resumable=True)
    assert resumed(newest).checkpoint == Position(phase=0, epoch=2, step=100)


def test_a_running_record_round_trips(running: Record, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, running)
    assert read_record(path) == running
    assert not running.finalized
    assert running.result_digest is None
    assert path.stat().st_mode & 0o777 == 0o644


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every leaf; an empty list or object is one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner or not value:
        yield path
    for key, item in inner:
        yield from _places(item, (*path, key))


def _other(leaf: Any) -> Any:
    """Another value, of the same kind where that is possible."""
    if isinstance(leaf, bool):
        return not leaf
    if isinstance(leaf, (int, float)):
        return leaf + 1
    if isinstance(leaf, str):
        return leaf[:-1] + ("0" if leaf[-1:] != "0" else "1")
    return "other" if leaf is None else {"other": 1} if leaf == {} else ["other"]


@pytest.mark.filterwarnings("ignore:record version 1.4 is newer")
def test_a_change_to_any_leaf_is_refused(value: dict[str, Any]) -> None:
    places = list(_places(value))
    assert len(places) > 400
    for place in places:
        changed = copy.deepcopy(value)
        holder = changed
        for key in place[:-1]:
            holder = holder[key]  # type: ignore[index]
        holder[place[-1]] = _other(holder[place[-1]])  # type: ignore[index]
        assert changed != value
        with pytest.raises(RecordError):
            Record.from_dict(changed)


def test_a_removed_or_added_part_is_refused(value: dict[str, Any]) -> None:
    for name in value:
        with pytest.raises(RecordError):
            Record.from_dict({key: item for key, item in value.items() if key != name})
    with pytest.raises(
        RecordError, match=r"^the checksum does not match: the record was changed after it was written$"
    ):
        Record.from_dict(value | {"note": "mine"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "'format' is 'other'; the file is not a record of a run"),
        ({"format": None}, "'format' is missing; the file is not a record of a run"),
        ({"version": "2.0"}, f"record version 2.0 is newer than this samebits reads {_UPGRADE}"),
        ({"version": "10.0"}, f"record version 10.0 is newer than this samebits reads {_UPGRADE}"),
        ({"version": "0.9"}, "there is no record version 0.9; the first is 1.0"),
        ({"version": "0.0"}, "there is no record version 0.0; the first is 1.0"),
        ({"version": "1"}, f"'version' must be like {RECORD_VERSION}, not '1'"),
        ({"version": "1.0.1"}, f"'version' must be like {RECORD_VERSION}, not '1.0.1'"),
        ({"version": 1.0}, "'version' must be str, not 1.0"),
        ({"outcome": {"state": "w"}}, "'outcome.state' must be one of running, finished, failed, interrupted, not 'w'"),
        ({"recipe": {}}, "missing value in 'recipe.image'"),
        ({"exclude": [1]}, "'exclude[0]' must be str, not 1"),
        ({"result": []}, "'result' must be dict, not []"),
        ({"timings": None}, "missing value in 'timings'"),
        ({"recipe_digest": None}, "'recipe_digest' does not belong to what it names"),
        ({"recipe_digest": f"sha256:{'0' * 64}"}, "'recipe_digest' does not belong to what it names"),
        ({"result_digest": None}, "'result_digest' does not belong to what it names"),
        ({"result_digest": f"sha256:{'0' * 64}"}, "'result_digest' does not belong to what it names"),
        ({"result": None}, "'result_digest' does not belong to what it names"),
        ({"result": {"models": []}}, "missing value in 'result.fits'"),
    ],
)  # fmt: skip
def test_a_sealed_file_that_is_no_record_of_ours(value: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError) as caught:
        Record.from_dict(_resealed(value, **changes))
    assert str(caught.value) == message


@pytest.mark.parametrize("state", [state for state in STATES if state != RUNNING])
def test_sealing(running: Record, tmp_path: Path, state: str) -> None:
    path = tmp_path / "record.json"
    write_record(path, running)
    final = replace(running, outcome=Outcome(state=state, message="m", traceback="t\n", exit_status=3))
    finalize(path, final)
    assert read_record(path) == final
    assert path.stat().st_mode & 0o777 == 0o444
    content = path.read_bytes()
    for again in (final, replace(final, outcome=Outcome(state=FINISHED))):
        with pytest.raises(RecordError) as caught:
            finalize(path, again)
        assert str(caught.value) == f"{path} is finalized already and stays as it is"
    assert path.read_bytes() == content


def test_a_running_record_is_not_sealed(running: Record, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, running)
    with pytest.raises(RecordError, match=r"^a record is finalized with an outcome, not while it is running$"):
        finalize(path, running)
    assert read_record(path) == running


def test_interrupted(running: Record) -> None:
    ended = interrupted(running, "power was lost")
    assert ended == replace(running, outcome=Outcome(state="interrupted", message="power was lost"))
    assert ended.finalized


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "{path} is not JSON: it is empty"),
        (b'{"format": ', "{path} is not JSON: it ends too early"),
        (b'"\xff"', "{path} is not JSON: it is not UTF-8"),
        (b"[]", "{path}: the file must hold an object, not list"),
        (b"{}", "{path}: 'format' is missing; the file is not a record of a run"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(RecordError) as caught:
        read_record(path)
    assert str(caught.value) == message.format(path=path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=f"^cannot read {re.escape(str(tmp_path))}: Is a directory$"):
        read_record(tmp_path)
    with pytest.raises(
        RecordError, match=f"^cannot read {re.escape(str(tmp_path / 'no'))}: No such file or directory$"
    ):
        read_record(tmp_path / "no")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda content: content.replace(b'"total": 14.125', b'"total": NaN'),
            r"{path}: it holds NaN, an infinity, or half of a character",
        ),
        (
            lambda content: content.replace(b'"goal": "bitwise"', b'"goal": "\\ud800"'),
            r"{path}: it holds NaN, an infinity, or half of a character",
        ),
        (lambda _: b"[" * 100_000, r"{path} is not JSON: it is nested too deeply"),
    ],
    ids=["NaN", "half a character", "deep"],
)
def test_a_file_that_only_python_calls_json_is_named(
    tmp_path: Path, spoil: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(spoil(EXAMPLE.read_bytes()))
    with pytest.raises(RecordError) as caught:
        read_record(path)
    assert re.fullmatch(message.format(path=re.escape(str(path))), str(caught.value))


def test_a_resealed_record_of_another_recipe_is_refused(value: dict[str, Any], tmp_path: Path) -> None:
    """Who can write the file can write its seal; recipe and digest must then still agree."""
    path = tmp_path / "record.json"
    path.write_bytes(readable_json(_resealed(value, recipe=value["recipe"] | {"seed": 8})))
    with pytest.raises(RecordError) as caught:
        read_record(path)
    assert str(caught.value) == f"{path}: 'recipe_digest' does not belong to what it names"
    assert read_record(path, check_checksum=False).recipe.seed == 8


def test_summary(example: Record, running: Record) -> None:
    lines = ["run runs/r", f"recipe {example.recipe.digest}", f"result {example.result_digest}"]
    assert summary(Path("runs/r"), example) == lines
    assert summary(Path("runs/r"), running) == lines[:2]


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_JSON = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
_LEAVES = list(_places(json.loads(EXAMPLE.read_bytes())))


def _holders(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every list and object, which something can be added to."""
    if isinstance(value, (dict, list)):
        yield path
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _holders(item, (*path, key))


_HOLDERS = list(_holders(json.loads(EXAMPLE.read_bytes())))


def _inside(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _mutated(value: dict[str, Any], data: st.DataObject) -> None:
    """Change, delete or add one thing, anywhere."""
    kind = data.draw(st.sampled_from(["change", "delete", "add"]))
    if kind == "add":
        holder = _inside(value, data.draw(st.sampled_from(_HOLDERS)))
        if isinstance(holder, dict):
            holder[data.draw(st.text())] = data.draw(_JSON)
        else:
            holder.insert(data.draw(st.integers(0, len(holder))), data.draw(_JSON))
        return
    *path, key = data.draw(st.sampled_from(_LEAVES))
    holder = _inside(value, tuple(path))
    if kind == "change":
        holder[key] = data.draw(_JSON)
    else:
        del holder[key]


@pytest.mark.filterwarnings("ignore:record version .* is newer")
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_mutation_is_found(data: st.DataObject) -> None:
    """By the seal, if by nothing else: whatever is written otherwise, 1.0 in the place of 1 included."""
    original = EXAMPLE.read_bytes()
    value = json.loads(original)
    _mutated(value, data)
    if readable_json(value) == original:
        assert Record.from_dict(value).finalized
    else:
        with pytest.raises(RecordError):
            Record.from_dict(value)
