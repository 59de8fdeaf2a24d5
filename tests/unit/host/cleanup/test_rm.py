"""`samebits rm`: whole runs, never one that lives or that a kept one resumes, and never half of one."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.ledger import lock_alive
from samebits.core.origin import ResumedRun
from samebits.core.record import RUNNING, Outcome, Record, write_record
from samebits.core.run_dir import RunDir
from samebits.host.cache_dir import cache_folder
from samebits.host.cleanup.run_removal import leftovers, remove_folder
from samebits.host.run_folders import note_run, was_begun_here
from support.command import call
from support.fake_runner import Played, played
from support.sweeps import only, sweep, sweeps

__all__ = ["played", "sweeps"]

FIRST, SECOND = "20261120T060000Z-train-0123abcd", "20261121T060000Z-train-0123abcd"


def make(runs: Path, record: Record, name: str, **changes: Any) -> RunDir:
    run = RunDir(runs / name)
    (run.path / "code").mkdir(parents=True)
    (run.path / "code" / "train.py").write_text("print(1)\n")
    run.ledger.touch()
    write_record(run.record, replace(record, id=name, **changes))
    return run


def resuming(record: Record) -> Any:
    return replace(record.origin, resumes=ResumedRun(id=FIRST, checksum=str(record.recipe.digest)))


def test_a_run_goes_with_the_verdicts_on_its_segments(tmp_path: Path, example: Record) -> None:
    run, other = make(tmp_path / "runs", example, FIRST), make(tmp_path / "runs", example, SECOND)
    for name in ("-segments", "-segments-2"):
        (tmp_path / "runs" / f"{FIRST}{name}").mkdir()
    dry = call("rm", FIRST, "--dry-run", folder=tmp_path)
    assert (dry.status, dry.out.split(" (")[0]) == (0, f"would remove runs/{FIRST}")
    assert run.record.exists()
    done = call("rm", FIRST, folder=tmp_path)
    assert (done.status, done.err, done.out.split(" (")[0]) == (0, "", f"removed runs/{FIRST}")
    assert os.listdir(tmp_path / "runs") == [other.path.name]


def test_the_note_that_a_run_began_here_goes_with_it(tmp_path: Path, example: Record) -> None:
    run, other = make(tmp_path / "runs", example, FIRST), make(tmp_path / "runs", example, SECOND)
    before = set(os.listdir(cache_folder("begun")))
    for item in (run, other):
        note_run(item)
    assert was_begun_here(run)
    assert call("rm", FIRST, folder=tmp_path).status == 0
    assert len({*os.listdir(cache_folder("begun"))} - before) == 1
    assert was_begun_here(other)


def test_a_run_that_lives(tmp_path: Path, example: Record) -> None:
    other = make(tmp_path / "runs", example, SECOND)
    run = make(tmp_path / "runs", example, FIRST, outcome=Outcome(state=RUNNING), result=None)
    with open(lock_alive(run.ledger), "rb"):
        done = call("rm", SECOND, FIRST, folder=tmp_path)
        assert done.status == 2
        assert done.complaint == f"{FIRST} is running, or cannot be seen from here; stop it, or add --force"
        assert run.record.exists()
        assert other.record.exists(), "all go, or none"
        assert call("rm", FIRST, "--force", folder=tmp_path).status == 0
    assert not run.path.exists()


def test_a_run_that_another_one_resumes(tmp_path: Path, example: Record) -> None:
    runs = tmp_path / "runs"
    first, second = make(runs, example, FIRST), make(runs, example, SECOND, origin=resuming(example))
    done = call("rm", FIRST, folder=tmp_path)
    assert (done.status, done.complaint) == (2, f"{FIRST} is resumed by {SECOND}; remove that, too, or add --force")
    assert call("rm", str(first.path), folder=tmp_path).status == 2
    assert call("rm", FIRST, SECOND, folder=tmp_path).status == 0
    assert not first.path.exists()
    assert not second.path.exists()


def test_a_run_of_a_sweep(sweeps: Played) -> None:
    sweep(sweeps, "--seeds", "0-1")
    _, found = only(sweeps)
    name = str(found.runs[0].id)
    done = sweeps.call("rm", name)
    message = f"{name} is a run of {found.id}, which needs it to be verified; add --force"
    assert (done.status, done.complaint) == (2, message)
    assert sweeps.call("rm", name, "--force").status == 0


def test_what_is_refused_even_with_force(tmp_path: Path, example: Record) -> None:
    run = make(tmp_path / "runs", example, FIRST)
    (tmp_path / "link").symlink_to(run.path)
    assert "is a link" in call("rm", "link", "--force", folder=tmp_path).complaint
    (tmp_path / "no-run").mkdir()
    assert call("rm", f"{tmp_path}/no-run", "--force", folder=tmp_path).status == 2
    assert "is the current folder" in call("rm", ".", "--force", folder=run.path).complaint
    assert "is the current folder" in call("rm", "..", "--force", folder=run.code).complaint
    assert run.record.exists()


@pytest.mark.parametrize("content", ['{"artist": "x"}', "no JSON", "[]"])
def test_a_folder_with_another_programs_record_is_no_run(tmp_path: Path, content: str) -> None:
    other = tmp_path / "music"
    other.mkdir()
    (other / "record.json").write_text(content)
    done = call("rm", str(other), "--force", folder=tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.complaint.endswith(f"{other} may be no run; remove it yourself")
    assert (other / "record.json").read_text() == content


def test_links_in_a_run_are_not_followed(tmp_path: Path, example: Record) -> None:
    run = make(tmp_path / "runs", example, FIRST)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (run.path / "outputs").symlink_to(tmp_path / "precious")
    assert call("rm", FIRST, folder=tmp_path).status == 0
    assert (tmp_path / "precious" / "file").exists()


def test_an_interrupted_removal_leaves_no_run(tmp_path: Path, example: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, example, FIRST)

    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("samebits.host.cleanup.run_removal.remove_tree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            remove_folder(run.path)
    (left,) = leftovers(tmp_path)
    assert not run.path.exists()
    remove_folder(left)
    assert leftovers(tmp_path) == []
