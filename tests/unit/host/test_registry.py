"""Runs are found and listed by when they started, not by their names."""

from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.errors import InputError
from samebits.core.record import Record, write_record
from samebits.core.run_dir import RunDir, claim
from samebits.host.runs.registry import find_run, read_runs
from support.clocks import at_time

NAME = "20261127T060000Z-train-0123abcd"


def make(runs: Path, record: Record, started: str, name: str = NAME) -> RunDir:
    """A run that started then."""
    run = claim(runs, name)
    write_record(run.record, replace(record, id=run.path.name, started=started))
    return run


def order(runs: Path) -> list[str]:
    return [run.name for run in read_runs(runs)]


@pytest.mark.parametrize("zone", ["{}+00:00", "{}.000000+00:00"], ids=["to the second", "to the microsecond"])
def test_the_last_of_eleven_in_one_second(tmp_path: Path, example: Record, zone: str) -> None:
    made = [make(tmp_path, example, zone.format("2026-11-27T06:00:00")) for _ in range(11)]
    assert find_run("last", tmp_path) == made[-1]
    assert order(tmp_path) == [run.path.name for run in made]


def test_a_capsule_is_to_be_unpacked(tmp_path: Path, example: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = make(tmp_path, example, "2026-11-27T06:00:00+00:00")
    Path("a.tar").touch()
    with pytest.raises(InputError) as caught:
        find_run("a.tar", tmp_path)
    message = "a.tar is a file, not a run; if it is a capsule, unpack it first: samebits unpack a.tar"
    assert str(caught.value) == message
    Path("2026").touch()
    assert find_run("2026", tmp_path) == run


def test_parts_of_a_second_count(tmp_path: Path, example: Record) -> None:
    first = make(tmp_path, example, "2026-11-27T06:00:00.100000+00:00", "20261127T060000Z-z-0123abcd")
    last = make(tmp_path, example, "2026-11-27T06:00:00.900000+00:00", "20261127T060000Z-a-0123abcd")
    assert find_run("last", tmp_path) == last
    assert order(tmp_path) == [first.path.name, last.path.name]


def test_a_renamed_run(tmp_path: Path, example: Record) -> None:
    mine = make(tmp_path, example, "2026-11-27T07:00:00+00:00", "best")
    make(tmp_path, example, "2026-11-27T06:00:00+00:00")
    assert find_run("last", tmp_path) == mine
    mine.path.rename(tmp_path / "old")
    write_record(tmp_path / "old" / "record.json", replace(example, started="2026-11-26T07:00:00+00:00"))
    assert find_run("last", tmp_path).path.name == NAME


def test_a_damaged_last_run_is_not_passed_over(tmp_path: Path, example: Record) -> None:
    make(tmp_path, example, "2026-11-27T06:00:00+00:00")
    damaged = claim(tmp_path, "20261127T070000Z-train-0123abcd")
    damaged.record.write_text("{")
    odd = claim(tmp_path, "99999999T999999Z-odd")
    assert find_run("last", tmp_path) == damaged
    odd.record.write_text("{")
    assert find_run("last", tmp_path) == odd


def test_a_clock_that_was_ahead_once(
    tmp_path: Path, example: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its runs are not the last for ever. Where the clock is behind all runs, the youngest is the last as before."""
    ahead = make(tmp_path, example, "2036-01-01T06:00:00+00:00", "20360101T060000Z-train-0123abcd")
    renamed = make(tmp_path, example, "2036-01-01T07:00:00+00:00", "renamed")
    mine = make(tmp_path, example, "2026-11-27T06:00:00+00:00")
    at_time(monkeypatch, "2026-11-27T06:01:00+00:00")
    assert find_run("last", tmp_path) == mine
    said = capsys.readouterr().err
    assert said == (
        "samebits: not taken for the last run, as it started in the future by this machine's clock:"
        f" {ahead.path.name}, renamed\n"
    )
    at_time(monkeypatch, "2036-01-01T06:01:00+00:00")
    assert find_run("last", tmp_path) == ahead
    at_time(monkeypatch, "2036-01-01T07:01:00+00:00")
    assert find_run("last", tmp_path) == renamed
    capsys.readouterr()
    at_time(monkeypatch, "1970-01-01T00:01:00+00:00")
    assert find_run("last", tmp_path) == renamed
    assert capsys.readouterr().err == ""


def test_the_clocks_of_machines_differ_by_a_minute(
    tmp_path: Path, example: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, example, "2026-11-27T06:00:00+00:00")
    theirs = make(tmp_path, example, "2026-11-27T06:02:00+00:00", "20261127T060200Z-train-0123abcd")
    at_time(monkeypatch, "2026-11-27T06:01:00+00:00")
    assert find_run("last", tmp_path) == theirs
