"""Each value of a record by its path where it is wrong; a defect of ours is none of the record's."""

import json
import re
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from samebits.core.environment import Environment
from samebits.core.errors import RecordError
from samebits.core.origin import Origin
from samebits.core.record import Outcome, Record, read_record
from samebits.core.record_summary import RecordSummary
from samebits.core.result import Result
from samebits.core.timings import Timings
from samebits.host.cli.parser import main
from support.command import DATA, EXAMPLE

NEWEST = max(DATA.glob("record-*.json"))


def _inside(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _kinds(value: Any, name: str = "") -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The path of every value of a record, and its name in messages; of what is named by the data itself, the first."""
    if name:
        yield (), name
    items: Any = ()
    if isinstance(value, dict):
        items = [(key, f"{name}.{key}" if name else key) for key in sorted(value)]
        if name.endswith((".distributions", ".operations", ".history", ".tensors", ".variables")):
            items = items[:1]
    elif isinstance(value, list):
        items = [(index, f"{name}[{index}]") for index in range(len(value))][:1]
    for key, inner in items:
        for path, found in _kinds(value[key], inner):
            yield (key, *path), found


_VALUES = {name: path for path, name in _kinds(json.loads(NEWEST.read_bytes()))}


@pytest.mark.parametrize("name", [name for name in _VALUES if name not in {"seal", "recipe_digest", "result_digest"}])
def test_a_value_of_another_kind_is_named_by_its_path(name: str) -> None:
    value = json.loads(NEWEST.read_bytes())
    *path, key = _VALUES[name]
    holder = _inside(value, tuple(path))
    holder[key] = 7 if isinstance(holder[key], bool) else True
    with pytest.raises(RecordError) as caught:
        Record.from_dict(value, check_checksum=False)
    assert re.match(rf"'?{re.escape(name)}'? must (be|hold) ", str(caught.value)), str(caught.value)


@pytest.mark.parametrize("reader", [Environment, Result, Origin, Timings, Outcome])
@pytest.mark.parametrize("error", [KeyError, TypeError, AttributeError, IndexError, ValueError])
def test_a_defect_of_ours_is_no_corrupt_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reader: type, error: type[Exception]
) -> None:
    def broken(_: object) -> None:
        raise error("ours")

    monkeypatch.setattr(reader, "from_fields", broken)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with pytest.raises(error, match="ours"):
        read_record(EXAMPLE)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["show", str(DATA / "ledger-1.1")]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback")
    assert printed.endswith("\nsamebits: a defect of samebits itself; please report it\n")
    assert "record.json" not in printed


@pytest.mark.parametrize("path", sorted(DATA.rglob("record*.json")), ids=lambda path: path.stem)
def test_a_summary_is_the_records_own(path: Path) -> None:
    record = read_record(path)
    resumed = record.origin.resumes
    last = record.result.fits[-1] if record.result and record.result.fits else None
    cpu = None if record.environment.system is None else record.environment.system.cpu
    assert RecordSummary.from_dict(json.loads(path.read_bytes())) == RecordSummary(
        id=record.id,
        level=record.level,
        started=record.started,
        outcome=record.outcome,
        seed=record.recipe.seed,
        recipe=record.recipe.digest,
        result=record.result_digest,
        seconds=record.timings.total,
        resumes=None if resumed is None else resumed.id,
        script=record.recipe.code.entry,
        arguments=record.recipe.code.arguments,
        metrics={} if last is None else {name: values[-1] for name, values in last.history.items()},
        verifies=None if record.origin.verifies is None else record.origin.verifies.id,
        host=record.host,
        cpu=None if cpu is None else f"{cpu.model} ({cpu.instruction_set})",
        runtime=record.environment.runtime,
    )
