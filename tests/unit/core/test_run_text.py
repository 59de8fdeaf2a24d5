"""The record in words: from the record alone, and no value of it passes for a line of the text."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from samebits.core.folder_manifest import read_folder_manifest
from samebits.core.printable import printable
from samebits.core.record import FAILED, RUNNING, Outcome, Record, write_record
from samebits.core.run_dir import RunDir
from samebits.core.run_text import describe_record
from support.records import with_result


def test_what_it_holds(example: Record) -> None:
    text = describe_record(example)
    lines = text.splitlines()
    assert lines[0] == f"Run {example.id}"
    assert f"result      {example.result_digest}" in lines
    assert f"recipe      {example.recipe.digest}" in lines
    assert "arguments   --epochs 3 --note 'grün'" in lines
    assert (
        "fit 0       3 epochs; last values: accuracy 0.8125, loss 0.70125, val_accuracy 0.875, val_loss 0.4375" in lines
    )
    assert "    samebits verify THIS_FOLDER --data FOLDER_OF_THE_DATA" in lines
    assert describe_record(example) == text


def test_a_run_without_a_result(example: Record) -> None:
    outcome = Outcome(state=FAILED, message="the script failed: \x1b[2J\nresult      sha256:0")
    lines = describe_record(replace(example, outcome=outcome, result=None)).splitlines()
    assert r"outcome     failed: the script failed: \x1b[2J\nresult      sha256:0" in lines
    assert [line for line in lines if line.startswith("result")] == ["result      none"]


def test_a_metric_that_is_no_line(example: Record) -> None:
    def spoil(value: dict[str, Any]) -> None:
        value["fits"][0]["history"] = {"a\nrecipe      sha256:0\u202e": ["0x1p-1"]} | {
            f"m{n}": ["x"] for n in range(99)
        }

    text = describe_record(with_result(example, spoil))
    assert r"last values: a\nrecipe      sha256:0\u202e 0.5, m0 x, " in text
    assert "m98" not in text
    assert printable(text, keep="\n") == text


def test_it_is_written_with_the_record_and_in_the_manifest(tmp_path: Path, example: Record) -> None:
    run = RunDir(tmp_path)
    running = replace(example, outcome=Outcome(state=RUNNING), files=None)
    write_record(run.record, running)
    run.finalize(replace(running, outcome=example.outcome))
    assert run.text.read_text(encoding="utf-8") == describe_record(run.read())
    assert "README.txt" in read_folder_manifest(run.manifest)


def test_a_run_is_worth_more_than_its_text(tmp_path: Path, example: Record) -> None:
    run = RunDir(tmp_path)
    run.text.mkdir()
    (run.text / "x").touch()
    running = replace(example, outcome=Outcome(state=RUNNING), files=None)
    write_record(run.record, running)
    run.finalize(replace(running, outcome=example.outcome))
    assert run.read().finalized
