"""Which runs a list shows, and what it notes about them."""

import gc
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import InputError, RecordError
from samebits.core.origin import ResumedRun, VerifiedRun
from samebits.core.record import RUNNING, Outcome, Record, write_record
from samebits.core.run_dir import RunDir, claim
from samebits.host.cli import list_runs as cli_list
from samebits.host.runs import listed_run, run_index, run_list
from samebits.host.runs.listed_run import ListedRun, Packed, read_listed
from samebits.host.runs.registry import find_run, read_runs
from samebits.host.runs.run_list import RunFilter, list_runs, parse_since, summarise
from samebits.host.runs.verification_file import complete_verification, write_verification
from support.records import with_result

FIRST, SECOND, THIRD = (f"2026112{day}T060000Z-train-0123abcd" for day in range(3))


def make(runs: Path, record: Record, name: str, **origin: Any) -> RunDir:
    run = claim(runs, name)
    started = f"{name[:4]}-{name[4:6]}-{name[6:8]}T06:00:00+00:00"
    record = replace(record, id=run.path.name, started=started, origin=replace(record.origin, **origin))
    write_record(run.record, record)
    return run


def verifying(record: Record, of: str = FIRST) -> Mapping[str, VerifiedRun]:
    return {"verifies": VerifiedRun(id=of, checksum=str(record.recipe.digest))}


def write_verdict(run: RunDir, of: str = FIRST) -> None:
    body = {"verified": {"id": of}, "verdict": "identical", "goal": "bitwise"}
    write_verification(run.verification, complete_verification(body))


def test_last_never_verifies_another(tmp_path: Path, example: Record) -> None:
    first = make(tmp_path, example, FIRST)
    make(tmp_path, example, SECOND, **verifying(example))
    assert find_run("last", tmp_path) == first
    # The runs of early versions name the other run in this file alone.
    write_verdict(make(tmp_path, example, THIRD))
    assert find_run("last", tmp_path) == first
    # Neither does one that was renamed.
    make(tmp_path, example, "20261201-renamed", **verifying(example))
    assert find_run("last", tmp_path) == first


def test_no_last_run(tmp_path: Path, example: Record) -> None:
    make(tmp_path, example, FIRST, **verifying(example))
    with pytest.raises(InputError, match=r"^there is no last run: all 1 runs verify others; name one by its id$"):
        find_run("last", tmp_path)


def test_what_is_noted(tmp_path: Path, example: Record) -> None:
    make(tmp_path, example, FIRST)
    write_verdict(make(tmp_path, example, SECOND, **verifying(example)))
    make(tmp_path, example, THIRD, resumes=ResumedRun(id=FIRST, checksum=str(example.recipe.digest)))
    make(tmp_path, example, "20261125T060000Z-x", **verifying(example))
    damaged = make(tmp_path, example, "20261126T060000Z-x")
    damaged.verification.write_text("{")
    notes = [run.note for run in read_runs(tmp_path)]
    assert notes[:4] == ["", f"verifies {FIRST}: identical", f"resumes {FIRST}", f"verifies {FIRST}"]
    assert notes[4].startswith(f"{damaged.verification} is not JSON")
    listed = [summarise(run) for run in read_runs(tmp_path)]
    assert [(item["verifies"], item["resumes"]) for item in listed[1:3]] == [(FIRST, None), (None, FIRST)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (RunFilter(), [FIRST, SECOND, THIRD]),
        (RunFilter(limit=2), [SECOND, THIRD]),
        (RunFilter(script="train.py"), [FIRST, SECOND, THIRD]),
        (RunFilter(script="./train.py", limit=1), [THIRD]),
        (RunFilter(script="rain.py"), []),
        (RunFilter(recipe="bba4"), [FIRST, SECOND, THIRD]),
        (RunFilter(recipe="sha256:bba4ec6d"), [FIRST, SECOND, THIRD]),
        (RunFilter(recipe="ba4e"), []),
        (RunFilter(outcome="finished", since=datetime(2026, 11, 21, tzinfo=UTC)), [SECOND, THIRD]),
        (RunFilter(outcome="failed"), []),
    ],
)
def test_filters(tmp_path: Path, example: Record, wanted: RunFilter, found: list[str]) -> None:
    for name in (FIRST, SECOND, THIRD):
        make(tmp_path, example, name)
    assert [run.name for run in wanted.select(read_runs(tmp_path))] == found


def test_a_script_by_the_end_of_its_path() -> None:
    from samebits.host.runs.run_list import _names

    assert _names("b/train.py", "a/b/train.py")
    assert _names("train.py", "a/b/train.py")
    assert not _names("c/train.py", "a/b/train.py")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2d", "2026-11-25T12:00:00+00:00"),
        ("90m", "2026-11-27T10:30:00+00:00"),
        ("1w", "2026-11-20T12:00:00+00:00"),
        ("2026-11-27T06:00:00+02:00", "2026-11-27T04:00:00+00:00"),
    ],
)
def test_times(text: str, found: str) -> None:
    assert parse_since(text, datetime(2026, 11, 27, 12, tzinfo=UTC)).isoformat() == found


@pytest.mark.parametrize("text", ["", "yesterday", "2x", "999999w", "0001-01-01T00:00:00+23:59", "-2d"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InputError, match="is no time; write 2026-11-27"):
        parse_since(text)


@pytest.mark.parametrize("values", [{"outcome": "fine"}, {"limit": 0}, {"limit": -1}])
def test_filters_that_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be"):
        RunFilter(**values)


@pytest.mark.parametrize("text", ["", "zzz", "sha256:", "bba4 ", "a" * 65])
def test_a_recipe_that_is_no_digest(text: str) -> None:
    with pytest.raises(InputError, match="takes a digest"):
        RunFilter(recipe=text)


def test_metrics_that_json_has_no_number_for(tmp_path: Path, example: Record) -> None:
    def spoil(value: dict[str, Any]) -> None:
        value["fits"][-1]["history"] = {"loss": ["nan"], "top": ["inf"], "odd": ["text"], "large": ["0x1p9999"]}

    run = make(tmp_path, with_result(example, spoil), FIRST)
    wanted = {"loss": "nan", "top": "inf", "odd": "text", "large": "0x1p9999"}
    row, summary = read_listed(run)[0]
    assert summarise(ListedRun(tmp_path, FIRST, row, lambda _: summary))["metrics"] == wanted


def test_a_row_stays_a_row(tmp_path: Path, example: Record, capsys: pytest.CaptureFixture[str]) -> None:
    def spoil(value: dict[str, Any]) -> None:
        value["fits"][-1]["history"] = {"x" * 100_000: ["0x1p0"]}

    code = replace(example.recipe.code, entry="y" * 100_000, arguments=("z" * 100_000,))
    make(tmp_path, replace(with_result(example, spoil), recipe=replace(example.recipe, code=code)), FIRST)
    list_runs(tmp_path, RunFilter())
    assert max(map(len, capsys.readouterr().out.splitlines())) < 400


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the indexes; changes count as past at once."""
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(run_index, "_SETTLED_SECONDS", -60.0)
    return tmp_path / "cache" / "lists"


def listed(runs: Path) -> list[dict[str, Any]]:
    return [{**summarise(run), "note": run.note, "cpu": run.summary.cpu, "cells": run.cells} for run in read_runs(runs)]


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that are read from their folders from now on."""
    names: list[str] = []

    def noted(folder: RunDir) -> tuple[Packed, bool]:
        names.append(folder.path.name)
        return read_listed(folder)

    monkeypatch.setattr(run_index, "read_listed", noted)
    return names


def test_ended_runs_are_read_once(runs: Path, example: Record, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index shows what the folders hold, and what cannot change any more is not read again."""
    make(runs, example, FIRST)
    write_verdict(make(runs, example, SECOND, **verifying(example)))
    make(runs, replace(example, outcome=Outcome(state=RUNNING)), THIRD)
    first, names = listed(runs), count_reads(monkeypatch)
    assert [item["id"] for item in first] == [FIRST, SECOND, THIRD]
    assert listed(runs) == first
    assert names == [THIRD], "a run that has not ended is read each time"
    assert len(list(index.iterdir())) == 1


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("change", ["record", "in place", "verdict", "verdict in place", "late", "removed", "renamed"])
def test_a_run_that_changed_is_read_again(
    runs: Path, example: Record, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    run = make(runs, example, FIRST)
    make(runs, example, SECOND)
    if change == "verdict in place":
        write_verdict(run, SECOND)
    before, names = listed(runs), count_reads(monkeypatch)
    if change == "record":
        write_record(run.record, replace(example, level="metrics"))
    elif change == "in place":
        run.record.chmod(0o644)
        run.record.write_bytes(run.record.read_bytes().replace(b"bitwise", b"metrics"))
    elif change == "verdict":
        write_verdict(run, SECOND)
    elif change == "verdict in place":
        text = run.verification.read_text().replace("identical", "different")
        run.verification.chmod(0o644)
        run.verification.write_text(text)
    elif change == "late":
        write_record(run.path / "record.late.json", example)
    elif change == "renamed":
        run.path.rename(runs / THIRD)
    else:
        shutil.rmtree(run.path)
    after = listed(runs)
    assert after != before
    assert names == {"removed": [], "renamed": [THIRD]}.get(change, [FIRST])
    assert listed(runs) == after


def test_an_index_with_the_summaries_of_two_runs_exchanged(runs: Path, example: Record, index: Path) -> None:
    make(runs, example, FIRST)
    make(runs, example, SECOND)
    before = listed(runs)
    (path,) = index.iterdir()
    with closing(sqlite3.connect(path)) as database, database:
        rows = database.execute("SELECT state, crc, content, name FROM summaries ORDER BY name").fetchall()
        assert len(rows) == 2
        database.execute("DELETE FROM summaries")
        exchanged = [(*one[:3], other[3]) for one, other in zip(rows, reversed(rows), strict=True)]
        database.executemany("INSERT INTO summaries (state, crc, content, name) VALUES (?, ?, ?, ?)", exchanged)
    assert listed(runs) == before


@pytest.mark.parametrize(
    "content",
    [
        *(b"no database", b""),
        "UPDATE runs SET content = CAST(replace(content, 'finished', 'failed') AS BLOB)",
        "UPDATE summaries SET content = CAST(replace(content, 'bitwise', 'metrics') AS BLOB)",
        "UPDATE summaries SET content = replace(content, 'bitwise', 'bitwise')",  # as text
        "DELETE FROM summaries",
        "DROP TABLE summaries",
    ],
)
def test_an_index_that_cannot_be_read(runs: Path, example: Record, index: Path, content: bytes | str) -> None:
    """It is made again; entries of another form count for nothing."""
    make(runs, example, FIRST)
    before = listed(runs)
    (path,) = index.iterdir()
    if isinstance(content, str):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(content)
    else:
        path.write_bytes(content)
    assert listed(runs) == before
    assert listed(runs) == before
    with closing(sqlite3.connect(path)) as database:
        for table, held in (("runs", "finished"), ("summaries", "bitwise")):
            whole = f"instr(content, '{held}') AND typeof(content) = 'blob'"
            assert database.execute(f"SELECT count(*) FROM {table} WHERE {whole}").fetchone() == (1,)


def test_a_run_that_goes_while_it_is_listed(runs: Path, example: Record, index: Path) -> None:
    """Where the index does not hold its summary any more either."""
    make(runs, example, FIRST)
    listed(runs)
    (one,) = read_runs(runs)
    shutil.rmtree(runs)
    shutil.rmtree(index)
    with pytest.raises(RecordError, match=r"^cannot read .*record\.json: No such file"):
        assert one.summary


@pytest.mark.usefixtures("index")
def test_what_changed_just_now_is_not_relied_on(runs: Path, example: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change within the clock's step would not be seen."""
    monkeypatch.setattr(run_index, "_SETTLED_SECONDS", 60.0)
    make(runs, example, FIRST)
    listed(runs)
    names = count_reads(monkeypatch)
    listed(runs)
    assert names == [FIRST]


@pytest.mark.usefixtures("index")
def test_a_verdict_behind_a_link(runs: Path, example: Record, tmp_path: Path) -> None:
    """Where a link to nothing gets a target, the folder does not change."""
    run = make(runs, example, FIRST)
    run.verification.symlink_to(tmp_path / "verdict.json")
    before = listed(runs)
    assert before[0]["note"] == ""
    assert listed(runs) == before
    body = {"verified": {"id": SECOND}, "verdict": "identical", "goal": "bitwise"}
    write_verification(tmp_path / "verdict.json", complete_verification(body))
    assert listed(runs)[0]["note"] != ""


@pytest.mark.usefixtures("index")
def test_a_list_of_all_parses_no_summary(runs: Path, example: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100,000 runs only the rows are read."""
    make(runs, example, FIRST)
    listed(runs)
    monkeypatch.setattr(listed_run, "_summary", lambda _: pytest.fail("parsed"))
    list_runs(runs, RunFilter(limit=1))


@pytest.mark.parametrize("as_json", [False, True])
def test_no_cycles_are_looked_for_while_a_list_is_printed(
    runs: Path, example: Record, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    """Of 100,000 runs that took a third of the time."""
    make(runs, example, FIRST)
    seen: list[bool] = []
    monkeypatch.setattr(run_list, "print_table", lambda *_: seen.append(gc.isenabled()))
    monkeypatch.setattr(cli_list, "print_json", lambda _: seen.append(gc.isenabled()))
    assert cli_list.list_command(runs=runs, wanted=RunFilter(), as_json=as_json) == 0
    assert seen == [False]
    assert gc.isenabled()


def test_without_a_cache(tmp_path: Path, runs: Path, example: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "file"))
    make(runs, example, FIRST)
    assert [item["id"] for item in listed(runs)] == [FIRST]
