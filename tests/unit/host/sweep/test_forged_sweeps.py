"""Summaries of runs that are not theirs: no other folder is read for them, and no run stands for another member."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import RecordError
from samebits.host.sweep.members import Member
from samebits.host.sweep.sweep_file import (
    Sweep,
    SweepDir,
    SweepRun,
    digest_of,
    find_sweep,
    read_sweep,
    sweeps_of,
    write_sweep,
)
from support.fake_runner import Played, played
from support.sweeps import forge, only, sweep, sweeps

__all__ = ["played", "sweeps"]


def made(folder: Path) -> SweepDir:
    """A sweep of one run, in a folder of that name."""
    folder.mkdir(parents=True)
    recipe = Digest.of_bytes(b"recipe")
    run = SweepRun(member=Member(seed=1), recipe=recipe, id="a", outcome="finished", result=recipe)
    found = Sweep(
        id=folder.name, started="", script="train.py", arguments=(), runs=(run,), digest=digest_of([run]), groups=()
    )
    write_sweep(SweepDir(folder), found)
    return SweepDir(folder)


def test_a_run_with_the_file_of_a_sweep_is_a_run(tmp_path: Path) -> None:
    inside, outside = made(tmp_path / "sweeps/sweep-1"), made(tmp_path / "elsewhere/sweep-1")
    assert [find_sweep(name, tmp_path) for name in (str(inside.path), "sweep-1")] == [inside, inside]
    assert find_sweep(str(outside.path), tmp_path) is None
    (inside.path / "record.json").symlink_to("gone")
    assert (find_sweep(str(inside.path), tmp_path), sweeps_of(tmp_path)) == (None, [])


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda v: v.update(id="../../sweep-1"), "'id' must be the name of its folder, not '../../sweep-1'"),
        (lambda v: v["runs"][0].update(run="elsewhere/a"), "'elsewhere/a' is no id of a run"),
        (lambda v: v["runs"][0].update(run=".."), "'..' is no path beneath a run's folder"),
    ],
)
def test_names_that_lead_elsewhere(tmp_path: Path, edit: Callable[[dict[str, Any]], object], problem: str) -> None:
    folder = made(tmp_path / "sweeps/sweep-1")
    assert read_sweep(folder).runs[0].id == "a"
    forge(folder, edit)
    with pytest.raises(RecordError) as error:
        read_sweep(folder)
    assert str(error.value).endswith(problem)


def test_a_folder_named_by_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made(tmp_path / "sweeps/sweep-1").path)
    assert find_sweep(os.curdir, tmp_path) == SweepDir(Path())
    assert read_sweep(SweepDir(Path())).id == "sweep-1"


def _exchanged(value: dict[str, Any]) -> None:
    """The runs of two members, whose recipes differ in seed or argument, in each other's place."""
    first, second = value["runs"]
    for name in ("seed", "grid"):
        first[name], second[name] = second[name], first[name]


def _repeated(value: dict[str, Any]) -> None:
    value["runs"][1] = {**value["runs"][0], "seed": value["runs"][1]["seed"]}


@pytest.mark.parametrize(
    ("options", "edit", "problem"),
    [
        (["--seeds", "0,1"], _exchanged, "seed 1: the run {id} has another seed or other arguments than this member"),
        (
            ["--seeds", "0", "--grid", "lr=1,2"],
            _exchanged,
            "lr=2, seed 0: the run {id} has another seed or other arguments than this member",
        ),
        (["--seeds", "0,1"], _repeated, "the sweep names the run {id} twice"),
        (
            ["--seeds", "0,1"],
            lambda v: v.update(arguments=["--x"]),
            "seed 0: the run {id} has another seed or other arguments than this member",
        ),
    ],
)
def test_a_run_stands_for_its_own_member(
    sweeps: Played, options: list[str], edit: Callable[[dict[str, Any]], object], problem: str
) -> None:
    sweeps.project.write("pass\n")
    sweep(sweeps, *options)
    folder, found = only(sweeps)
    forge(folder, edit)
    done = sweeps.call("verify", "sweep-")
    assert (done.status, done.out.splitlines()[0]) == (3, problem.replace("{id}", found.runs[0].id)), done.err
    assert sweeps.runs() == 2


def test_a_grid_in_any_order(sweeps: Played) -> None:
    """The file sorts the names of a grid; the runs had them as they were given."""
    sweeps.project.write("pass\n")
    sweep(sweeps, "--seeds", "0", "--grid", "b=1", "--grid", "a=2", "--", "--z", "3")
    assert sweeps.call("verify", "sweep-").status == 0
