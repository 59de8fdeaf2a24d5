"""Every edit of a ledger is found and named by its line, and every disagreement with the record."""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samebits.core.digest import Digest
from samebits.core.jsonio import canonical_json
from samebits.core.ledger import Ledger
from samebits.core.origin import ResumedRun
from samebits.core.record import LedgerEnd, Record, read_record
from samebits.host.audit.ledger_audit import LedgerCheck, check_ledger
from support.command import EXAMPLE
from support.records import result_of, with_result

DATA = EXAMPLE.parent


@pytest.fixture
def sealed(tmp_path: Path, example: Record) -> Record:
    """A finalized record without a result, and its ledger of six lines."""
    return _sealed(tmp_path / "ledger.jsonl", example, [{"event": "step", "x": number} for number in range(6)])


def _sealed(path: Path, record: Record, lines: Iterable[Mapping[str, object]]) -> Record:
    path.unlink(missing_ok=True)
    with Ledger(path, record.recipe.digest) as ledger:
        for values in lines:
            ledger.append(values)
        return replace(record, result=None, ledger=LedgerEnd(lines=ledger.lines, last=str(ledger.last)))


def _spoiled(path: Path, spoil: Callable[[list[bytes]], list[bytes]]) -> Path:
    path.write_bytes(b"".join(spoil(path.read_bytes().splitlines(keepends=True))))
    return path


def _other(line: bytes) -> bytes:
    return line.replace(b'"x":', b'"x":9')


def test_a_ledger_that_is_as_recorded(tmp_path: Path, sealed: Record) -> None:
    path = tmp_path / "ledger.jsonl"
    for record in (sealed, replace(sealed, ledger=None)):
        check = check_ledger(path, record)
        assert check == LedgerCheck(lines=6)
        assert check.describe() == "6 lines, each follows the one before"
    path = tmp_path / "empty.jsonl"
    path.touch()
    record = replace(sealed, ledger=LedgerEnd(lines=0, last=str(sealed.recipe.digest)))
    assert check_ledger(path, record) == LedgerCheck(lines=0)
    assert check_ledger(path, replace(sealed, ledger=None)) == LedgerCheck(lines=0)


_SPOILED: dict[str, tuple[Callable[[list[bytes]], list[bytes]], list[str]]] = {
    "changed": (lambda lines: [*lines[:2], _other(lines[2]), *lines[3:]], ["line 3 was changed"]),
    "first changed": (lambda lines: [_other(lines[0]), *lines[1:]], ["line 1 was changed"]),
    "last changed": (lambda lines: [*lines[:5], _other(lines[5])], ["line 6 was changed"]),
    "two changed": (
        lambda lines: [lines[0], _other(lines[1]), *lines[2:4], _other(lines[4]), lines[5]],
        ["line 2 was changed", "line 5 was changed"],
    ),
    "neighbours changed": (
        lambda lines: [lines[0], *map(_other, lines[1:4]), *lines[4:]],
        ["line 4 was changed, and lines 2 to 3 perhaps too"],
    ),
    "what it carries changed": (
        lambda lines: [*lines[:2], lines[2].replace(b"sha256:", b"sha256:0"), *lines[3:]],
        ["line 3 was changed, and line 2 perhaps too"],
    ),
    "number changed": (
        lambda lines: [*lines[:3], lines[3].replace(b'"line":4', b'"line":9'), *lines[4:]],
        ["line 4 was changed"],
    ),
    "removed": (lambda lines: lines[:2] + lines[3:], ["line 3 was removed"]),
    "several removed": (lambda lines: lines[:1] + lines[4:], ["lines 2 to 4 were removed"]),
    "first removed": (lambda lines: lines[1:], ["line 1 was removed"]),
    "last removed": (lambda lines: lines[:4], ["lines 5 to 6 were removed"]),
    "twice": (lambda lines: [*lines[:3], lines[2], *lines[3:]], ["line 3 was added a second time"]),
    "copied": (lambda lines: [*lines, lines[1]], ["line 2 was added a second time"]),
    "exchanged": (
        lambda lines: [lines[0], lines[4], lines[2], lines[3], lines[1], lines[5]],
        ["line 2 was moved", "line 5 was moved"],
    ),
    "neighbours exchanged": (
        lambda lines: [*lines[:4], lines[5], lines[4]],
        ["line 6 was moved"],
    ),
    "moved": (
        lambda lines: [lines[0], *lines[2:5], lines[1], lines[5]],
        ["line 2 was moved"],
    ),
    "group moved": (
        lambda lines: [lines[0], *lines[3:5], *lines[1:3], lines[5]],
        ["lines 4 to 5 were moved"],
    ),
    "of all kinds": (
        lambda lines: [lines[0], lines[1], lines[1], lines[3], _other(lines[4]), lines[5]],
        ["line 2 was added a second time", "line 3 was removed", "line 5 was changed"],
    ),
    "no JSON": (lambda lines: [*lines[:2], b"{\n", *lines[3:]], ["line 3 cannot be read: it is not JSON"]),
    "no object": (lambda lines: [*lines[:2], b"[]\n", *lines[3:]], ["line 3 cannot be read: it is not an object"]),
    "no version": (
        lambda lines: [b"{}\n", *lines[1:]],
        ["line 1 cannot be read: missing value in 'version'"],
    ),
    "no digest": (
        lambda lines: [b'{"line":1,"version":"1.1"}\n', *lines[1:]],
        ["line 1 cannot be read: missing value in 'previous'"],
    ),
    "no number": (
        lambda lines: [b'{"version":"1.1"}\n', *lines[1:]],
        ["line 1 cannot be read: missing value in 'line'"],
    ),
    "no such number": (
        lambda lines: [b'{"line":0,"version":"1.1"}\n', *lines[1:]],
        ["line 1 cannot be read: 'line' must be 1 or more, not 0"],
    ),
    "a later version": (
        lambda lines: [*lines[:2], *(line.replace(b'"1.2"', b'"2.0"') for line in lines[2:])],
        ["lines 3 to 6 cannot be read: its version is '2.0', and this samebits reads 1.2; try a newer one"],
    ),
    "deep": (lambda lines: [b"[" * 100_000 + b"\n", *lines[1:]], ["line 1 cannot be read: it is not JSON"]),
    "no text": (lambda lines: [b"\xff\n", *lines[1:]], ["line 1 cannot be read: it is not JSON"]),
    "joined": (
        lambda lines: [*lines[:2], lines[2].replace(b"\n", b" "), *lines[3:]],
        ["line 3 cannot be read: it is not JSON", "line 4 was removed"],
    ),
    "put between": (
        lambda lines: [*lines[:2], b"x\n", b"y\n", *lines[2:]],
        ["2 lines added after line 2 cannot be read: it is not JSON"],
    ),
    "put before": (
        lambda lines: [b"x\n", *lines],
        ["1 line added before line 1 cannot be read: it is not JSON"],
    ),
    "cut": (
        lambda lines: [*lines[:5], lines[5][:9]],
        ["line 6 cannot be read: it is cut off"],
    ),
    "newline cut": (
        lambda lines: [*lines[:5], lines[5][:-1]],
        ["line 6 cannot be read: it is cut off"],
    ),
    "cut earlier": (
        lambda lines: [*lines[:3], lines[3][:9]],
        ["line 4 cannot be read: it is cut off", "lines 5 to 6 were removed"],
    ),
    "piece added": (lambda lines: [*lines, b"{"], ["1 line added after line 6 cannot be read: it is cut off"]),
    "emptied": (lambda _: [], ["lines 1 to 6 were removed"]),
}


@pytest.mark.parametrize(("spoil", "problems"), _SPOILED.values(), ids=_SPOILED.keys())
def test_a_ledger_that_was_changed(
    tmp_path: Path, sealed: Record, spoil: Callable[[list[bytes]], list[bytes]], problems: list[str]
) -> None:
    check = check_ledger(_spoiled(tmp_path / "ledger.jsonl", spoil), sealed)
    assert list(check.problems) == problems
    assert not check.torn
    assert check.describe().endswith(f", and {len(problems)} problem{'s' if problems[1:] else ''}")


def test_lines_that_were_added(tmp_path: Path, sealed: Record) -> None:
    path = tmp_path / "ledger.jsonl"
    _sealed(path, sealed, [{"event": "step", "x": number} for number in range(8)])
    assert check_ledger(path, sealed).problems == ("lines 7 to 8 were added at the end: the record names 6 lines",)


def test_a_ledger_of_another_recipe_or_none(tmp_path: Path, sealed: Record) -> None:
    path = tmp_path / "ledger.jsonl"
    other = replace(sealed, recipe=replace(sealed.recipe, seed=99))
    foreign = "line 1 does not follow from the recipe: the ledger is of another recipe"
    assert check_ledger(path, other).problems == (foreign,)
    _sealed(path, sealed, [{"x": 1}] * 9)
    assert check_ledger(path, other).problems == (foreign,)
    path.unlink()
    assert check_ledger(path, sealed).problems == (
        f"cannot read {path}: No such file or directory, and the record names 6 lines",
    )
    assert check_ledger(path, replace(sealed, ledger=None)).problems == (
        f"cannot read {path}: No such file or directory",
    )


def test_a_recomputed_chain_has_another_end(tmp_path: Path, sealed: Record) -> None:
    """An edited line with all later digests recomputed: the record has the digest of the last line."""
    path = tmp_path / "ledger.jsonl"
    _sealed(path, sealed, [{"event": "step", "x": min(number, 2)} for number in range(6)])
    assert check_ledger(path, sealed).problems == ("line 6 was changed",)


_TORN = "6 lines, each follows the one before; after them a line that was cut off (power was lost or the disk was full)"


@pytest.mark.parametrize("tail", [b'{"epoch":3,', b"\0" * 4096, b'{"ep\0\0\0\0', b'{"ep\0\0"}\n', b'{"epoch":\n'])
def test_a_torn_end_is_no_problem_of_a_run_that_died(tmp_path: Path, sealed: Record, tail: bytes) -> None:
    path = _spoiled(tmp_path / "ledger.jsonl", lambda lines: [*lines, tail])
    check = check_ledger(path, replace(sealed, ledger=None))
    assert check == LedgerCheck(lines=6, torn=True)
    assert check.describe() == _TORN
    check = check_ledger(path, sealed)
    assert (len(check.problems), check.torn) == (1, False)


@pytest.mark.parametrize(
    ("spoil", "problems"),
    [
        (lambda lines: [*lines[:5], lines[5][:-1]], ()),
        (lambda lines: [*lines[:3], b"{\n", *lines[4:]], ("line 4 cannot be read: it is not JSON",)),
        (
            lambda lines: [*lines[:3], b"{\0\n", *lines[4:]],
            ("line 4 cannot be read: it holds NUL bytes, as a power cut leaves them",),
        ),
        (lambda lines: [*lines[:3], _other(lines[3]), *lines[4:], b"{"], ("line 4 was changed",)),
        (lambda lines: [*lines[:4], _other(lines[4]), lines[5]], ("lines 5 to 6: at least one was changed",)),
        (lambda lines: [*lines[:3], *map(_other, lines[3:5]), lines[5]], ("lines 4 to 6: at least one was changed",)),
        (lambda lines: [_other(lines[0])], ()),  # nobody can tell
        (
            lambda lines: [lines[0].replace(b"sha256:", b"sha256:0")],
            ("line 1 does not follow from the recipe: the ledger is of another recipe, or the line was changed",),
        ),
        (
            lambda lines: [*lines[:5], lines[5].replace(b'"line":6', b'"line":9')],
            ("line 6 was changed",),
        ),
    ],
)
def test_what_an_unsealed_run_shows(
    tmp_path: Path, sealed: Record, spoil: Callable[[list[bytes]], list[bytes]], problems: tuple[str, ...]
) -> None:
    path = _spoiled(tmp_path / "ledger.jsonl", spoil)
    assert check_ledger(path, replace(sealed, ledger=None)).problems == problems


def test_a_newer_minor_version(tmp_path: Path, sealed: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samebits.core.ledger.LEDGER_VERSION", "1.2")
    newer = _sealed(tmp_path / "newer.jsonl", sealed, [{"event": "new", "x": 1}, {}])
    monkeypatch.undo()
    assert check_ledger(tmp_path / "newer.jsonl", newer) == LedgerCheck(lines=2)


def test_many_that_are_not_in_their_places(tmp_path: Path, sealed: Record) -> None:
    """One problem for all of them, in less than quadratic time."""
    path = tmp_path / "ledger.jsonl"
    record = _sealed(path, sealed, [{}] * 5000)
    assert check_ledger(_spoiled(path, lambda lines: lines[::-1]), record).problems == ("lines 2 to 5000 were moved",)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_committed_ledgers(version: str) -> None:
    """Ledgers of real runs, each written by the samebits of that version."""
    folder = DATA / f"ledger-{version}"
    record = read_record(folder / "record.json")
    lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_bytes().splitlines()]
    assert [line["version"] for line in lines] == [version] * 3
    assert [line.get("line") for line in lines] == ([1, 2, 3] if version == "1.1" else [None] * 3)
    check = check_ledger(folder / "ledger.jsonl", record)
    assert check.describe() == "3 lines, each follows the one before"


_AFTER = "does not follow the line before: one of them was edited"


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda lines: [lines[0].replace(b'"epoch":0', b'"epoch":7'), *lines[1:]], f"line 2 {_AFTER}"),
        (lambda lines: [lines[0], lines[2]], f"line 2 {_AFTER}"),
        (lambda lines: lines[1:], f"line 1 {_AFTER}"),
        (lambda lines: lines[:2], "the ledger has 2 lines, and the record names 3"),
        (lambda lines: [*lines[:2], lines[2][:9]], "line 3 cannot be read: it is cut off"),
        (lambda lines: [lines[0], b"x\n", lines[2]], "line 2 cannot be read: it is not JSON"),
        (lambda lines: [*lines, lines[2]], f"line 4 {_AFTER}"),
        (
            lambda lines: [*lines[:2], lines[2].replace(b"end", b"END")],
            "the ledger has another line 3 than the record names",
        ),
    ],
)
def test_lines_without_numbers(tmp_path: Path, spoil: Callable[[list[bytes]], list[bytes]], problem: str) -> None:
    """Without numbers, the kind of edit is unknown: the first break is named."""
    path = tmp_path / "ledger.jsonl"
    shutil.copy(DATA / "ledger-1.0" / "ledger.jsonl", path)
    record = read_record(DATA / "ledger-1.0" / "record.json")
    assert check_ledger(_spoiled(path, spoil), record).problems == (problem,)


def _trained(path: Path, record: Record) -> Record:
    """Two fits, the second from epoch 5 on with a metric that only every other epoch has; and steps between."""
    with Ledger(path, record.recipe.digest) as ledger:
        for fit, epochs in ((0, range(3)), (1, range(5, 9))):
            for epoch in epochs:
                ledger.append({"event": "step", "fit": fit, "step": epoch})
                metrics = {"loss": float(epoch).hex()} | ({"val": "nan"} if fit and epoch % 2 else {})
                ledger.append({"event": "epoch", "fit": fit, "epoch": epoch, "metrics": metrics})
        ledger.append({"event": "end", "models": ["a", "b"]})
        ended = LedgerEnd(lines=ledger.lines, last=str(ledger.last))
    histories = [
        {"loss": [float(epoch).hex() for epoch in range(3)]},
        {"loss": [float(epoch).hex() for epoch in range(5, 9)], "val": ["nan", "nan"]},
    ]
    fits = [{"model": 0, "epochs": len(history["loss"]), "history": history} for history in histories]
    models: list[dict[str, Any]] = [
        {"name": "m", "how": "fit", "tensors": {}, "digest": digest} for digest in ("a", "b")
    ]
    return replace(record, ledger=ended, result=result_of({"models": models, "fits": fits, "outputs": []}))


def _set(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def change(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (lambda _: None, []),
        (
            _set("fits", 0, "history", "loss", 1, to="0x1.1p+0"),
            ["line 4: loss in epoch 1 of fit 0 is 0x1.0000000000000p+0, in the record 0x1.1p+0"],
        ),
        (
            _set("fits", 1, "history", "val", 1, to="inf"),
            ["line 12: val in epoch 7 of fit 1 is nan, in the record inf"],
        ),
        (
            _set("fits", 1, "history", "val", to=["nan"] * 3),
            ["val of fit 1 has 3 values in the record, and 2 in the ledger"],
        ),
        (
            lambda result: (result["fits"][0].update(epochs=2), result["fits"][0]["history"]["loss"].pop()),
            ["fit 0 has 2 epochs in the record, and 3 in the ledger", "line 6: the record has no epoch 2 of fit 0"],
        ),
        (
            lambda result: (result["fits"][0].update(epochs=4), result["fits"][0]["history"]["loss"].append("x")),
            ["fit 0 has 4 epochs in the record, and 3 in the ledger"],
        ),
        (
            _set("fits", 0, "history", "acc", to=["0", "0", "0"]),
            [f"line {2 * n + 2}: acc in epoch {n} of fit 0 is not there, in the record 0" for n in range(3)],
        ),
        (
            lambda result: result["fits"].pop(),
            [f"line {number}: the record has no fit 1" for number in (8, 10, 12, 14)],
        ),
        (_set("models", 1, "digest", to="c"), ["line 15: model 1 is b, in the record c"]),
        (lambda result: result["models"].pop(), ["line 15: model 1 is b, in the record not there"]),
    ],
)
def test_a_record_that_disagrees_with_its_ledger(
    tmp_path: Path, example: Record, change: Callable[[dict[str, Any]], object], problems: list[str]
) -> None:
    path = tmp_path / "ledger.jsonl"
    record = _trained(path, example)
    assert list(check_ledger(path, with_result(record, change)).problems) == problems


def test_a_line_that_was_changed_is_named_once(tmp_path: Path, example: Record) -> None:
    """Its metrics differ from the record, too, which is not reported again; another disagreement is."""
    path = tmp_path / "ledger.jsonl"
    record = _trained(path, example)
    changed = with_result(record, _set("fits", 0, "history", "loss", 2, to="0x0.8p+0"))
    _spoiled(path, lambda lines: [lines[0], lines[1].replace(b"0x0.0p+0", b"0x0.1p+0"), *lines[2:]])
    assert check_ledger(path, record).problems == ("line 2 was changed",)
    _spoiled(path, lambda lines: [lines[0], lines[1].replace(b"0x0.1p+0", b"0x0.0p+0"), *lines[2:]])
    _spoiled(path, lambda lines: [*lines[:3], lines[3].replace(b'"epoch":1', b'"epoch":0'), *lines[4:]])
    assert check_ledger(path, changed).problems == (
        "line 4 was changed",
        "line 6: loss in epoch 2 of fit 0 is 0x1.0000000000000p+1, in the record 0x0.8p+0",
    )


@pytest.mark.parametrize("number", range(1, 16))
def test_a_line_that_is_missing_does_not_put_others_in_doubt(tmp_path: Path, example: Record, number: int) -> None:
    path = tmp_path / "ledger.jsonl"
    record = _trained(path, example)
    _spoiled(path, lambda lines: lines[: number - 1] + lines[number:])
    assert check_ledger(path, record).problems == (f"line {number} was removed",)


def test_a_ledger_without_lines_of_the_result(tmp_path: Path, example: Record) -> None:
    path = tmp_path / "ledger.jsonl"
    record = _trained(path, example)
    empty = replace(_sealed(path, record, [{"event": "epoch", "fit": "x"}]), result=record.result)
    assert check_ledger(path, empty).problems == (
        "fit 0 has 3 epochs in the record, and 0 in the ledger",
        "fit 1 has 4 epochs in the record, and 0 in the ledger",
        "the record has a result, and the ledger has 0 end lines",
        "val of fit 1 has 2 values in the record, and 0 in the ledger",
        "line 1: fit, epoch or metrics are not of the type that a ledger holds",
    )


_LINES = st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=9), max_size=3), max_size=9)


def _mutations(content: bytes, draw: st.DrawFn) -> tuple[bytes, set[int] | None]:
    """The file after one mutation, and the numbers of lines that may be named; None if the file is the same."""
    lines = content.splitlines(keepends=True)
    one, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    kind = draw(st.sampled_from(["flip", "delete", "duplicate", "swap", "truncate", "append"]))
    if kind == "flip":
        place, bits = draw(st.integers(0, len(content) - 1)), draw(st.integers(1, 255))
        at = content.count(b"\n", 0, place) + 1
        touched = {at, at + 1} if content[place] == 10 else {at}
        return content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :], touched
    if kind == "delete":
        del lines[one]
    elif kind == "duplicate":
        lines.insert(other, lines[one])
    elif kind == "swap":
        lines[one], lines[other] = lines[other], lines[one]
    elif kind == "truncate":
        cut = content[: draw(st.integers(0, len(content) - 1))]
        return cut, set(range(cut.count(b"\n") + 1, len(lines) + 1))
    else:
        lines.append(draw(st.binary(min_size=1, max_size=99)))
        return b"".join(lines), set()
    touched = {one + 1, other + 1} if kind == "swap" else {one + 1}
    return b"".join(lines), touched if b"".join(lines) != content else None


_NUMBERS = re.compile(r"lines? (\d+)(?: to (\d+))?")


def _named(problem: str) -> set[int]:
    """The lines that a problem names as edited: not those after which lines were added, nor the doubtful ones."""
    text = re.sub(r"added (after|before) line \d+|, and lines? .*perhaps too|: the record names .*", "", problem)
    return {n for a, b in _NUMBERS.findall(text) for n in range(int(a), int(b or a) + 1)}


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=_LINES.filter(bool), data=st.data())
def test_any_mutation_is_found_and_named(
    tmp_path: Path, example: Record, lines: list[Any], data: st.DataObject
) -> None:
    path = tmp_path / "ledger.jsonl"
    record = _sealed(path, example, lines)
    assert check_ledger(path, record) == LedgerCheck(lines=len(lines))
    content, touched = data.draw(st.composite(lambda draw: _mutations(path.read_bytes(), draw))())
    path.write_bytes(content)
    problems = check_ledger(path, record).problems
    if touched is None:
        assert problems == ()
    else:
        assert problems
        assert set().union(*map(_named, problems)) <= touched, problems


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_rearrangement_is_found(tmp_path: Path, example: Record, data: st.DataObject) -> None:
    """Any selection of lines in any order, with copies and with lines of a chain that was recomputed."""
    path = tmp_path / "ledger.jsonl"
    recomputed = _sealed(path, example, [{"x": number, "other": True} for number in range(6)])
    others = path.read_bytes().splitlines(keepends=True)
    record = _sealed(path, example, [{"x": number} for number in range(6)])
    lines = path.read_bytes().splitlines(keepends=True)
    found = data.draw(st.lists(st.sampled_from([*lines, *others]), max_size=9))
    path.write_bytes(b"".join(found))
    assert bool(check_ledger(path, record).problems) == (found != lines)
    assert bool(check_ledger(path, recomputed).problems) == (found != others)
    intact = any(found == whole[: len(found)] for whole in (lines, others))
    assert bool(check_ledger(path, replace(record, ledger=None)).problems) == (not intact)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=_LINES.filter(bool), data=st.data())
def test_without_numbers_any_mutation_is_found(
    tmp_path: Path, example: Record, lines: list[Any], data: st.DataObject
) -> None:
    path, last = tmp_path / "ledger.jsonl", example.recipe.digest
    with path.open("wb") as file:
        for values in lines:
            line = canonical_json({**values, "version": "1.0", "previous": str(last)})
            last = Digest.of_bytes(line)
            file.write(line + b"\n")
    record = replace(example, result=None, ledger=LedgerEnd(lines=len(lines), last=str(last)))
    assert check_ledger(path, record) == LedgerCheck(lines=len(lines))
    content, touched = data.draw(st.composite(lambda draw: _mutations(path.read_bytes(), draw))())
    path.write_bytes(content)
    assert bool(check_ledger(path, record).problems) == (touched is not None)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=_LINES.filter(bool), data=st.data())
def test_where_power_was_lost_nothing_is_called_tampering(
    tmp_path: Path, example: Record, lines: list[Any], data: st.DataObject
) -> None:
    path = tmp_path / "ledger.jsonl"
    record = replace(_sealed(path, example, lines), ledger=None)
    content = path.read_bytes()
    cut = content[: data.draw(st.integers(0, len(content)))]
    path.write_bytes(cut + b"\0" * data.draw(st.integers(0, 9)))
    check = check_ledger(path, record)
    assert check.problems == ()
    assert check.lines == cut.count(b"\n")
    assert check.torn == (not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0)


def test_rounds_and_what_resumes_do_not_trip_the_check(tmp_path: Path, example: Record) -> None:
    """Events without a counterpart in the record are chained like the others, and not compared."""
    path = tmp_path / "ledger.jsonl"
    rounds = [
        {"event": "round", "stage": 0, "round": number, "model": "m", "metrics": {}, "tensors": {}}
        for number in range(3)
    ]
    record = _sealed(path, example, rounds)
    resumed = replace(record, origin=replace(record.origin, resumes=ResumedRun(id="r", checksum="s")))
    assert check_ledger(path, resumed) == LedgerCheck(lines=3)
    path.write_bytes(path.read_bytes().replace(b'"round":1', b'"round":7'))
    assert check_ledger(path, resumed).problems
