"""Metrics as CSV: exact, also of an unfinished run, and nothing that a spreadsheet or a terminal would obey."""

import csv
import json
import shutil
from pathlib import Path

from samebits.core.run_dir import RunDir
from samebits.host.report.metrics_csv import metrics_csv
from support.command import EXAMPLE, call


def write_ledger(run: RunDir, *lines: object) -> None:
    run.ledger.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def epoch(number: int, metrics: dict[str, str], fit: int = 0) -> dict[str, object]:
    return {"event": "epoch", "fit": fit, "epoch": number, "metrics": metrics}


def test_a_row_per_epoch(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write_ledger(
        run,
        epoch(0, {"loss": (0.1).hex()}),
        epoch(1, {"loss": "nan", "accuracy": (1 / 3).hex()}),
        {"event": "step", "fit": 0, "step": 4, "metrics": {"loss": "0x1p0"}},
        epoch(0, {"loss": "inf"}, fit=1),
    )
    lines = list(metrics_csv(run))
    assert lines == ["fit,epoch,accuracy,loss", "0,0,,0.1", "0,1,0.3333333333333333,nan", "1,0,,inf"]
    assert float(next(csv.reader(lines[2:3]))[2]) == 1 / 3


def test_names_that_someone_else_chose(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write_ledger(run, epoch(0, dict.fromkeys(("=cmd()", 'a,"b', "c\nd\x1b"), "0x1p0")))
    lines = list(metrics_csv(run))
    assert len(lines) == 2
    assert next(csv.reader(lines[:1])) == ["fit", "epoch", "'=cmd()", 'a,"b', r"c\nd\x1b"]


def test_a_run_without_lines(tmp_path: Path) -> None:
    assert list(metrics_csv(RunDir(tmp_path))) == ["fit,epoch"]


def test_the_option(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    shutil.copytree(EXAMPLE.with_name("ledger-1.1"), folder)
    done = call("show", "a", "--csv", folder=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[0].startswith("fit,epoch,")
    (folder / "ledger.jsonl").chmod(0o644)
    (folder / "ledger.jsonl").write_bytes(
        b"".join((folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)[1:])
    )
    edited = call("show", "a", "--csv", folder=tmp_path)
    assert edited.status == 2
    assert "do not rely on this run" in edited.err
    for other in (["--json"], ["--image", "x"]):
        assert call("show", *([] if "x" in other else ["a"]), "--csv", *other, folder=tmp_path).status == 2
