"""`samebits sweep`: one run each, an honest summary, continued after an interruption, and verified."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samebits.core.ledger import lock_alive
from samebits.host.report.sweep_page import sweep_page
from samebits.host.sweep.sweep_file import SweepDir, find_sweep
from support.fake_runner import Played, played
from support.sweeps import forge, only, records, sweep, sweeps

__all__ = ["played", "sweeps"]


def test_one_run_each_and_a_summary(sweeps: Played) -> None:
    done = sweep(sweeps, "--seeds", "0-2", "--html", "page.html")
    assert done.status == 0, done.err
    folder, found = only(sweeps)
    assert done.out.splitlines()[-2:] == [f"sweep runs/sweeps/{found.id}", f"digest {found.digest}"]
    runs = records(sweeps)
    assert sweeps.runs() == len(runs) == 3
    assert [run.read().recipe.seed for run in runs.values()] == [0, 1, 2]
    values = [float.fromhex(run.read().final_metrics[0, "loss"]) for run in runs.values()]
    (metric,) = found.groups[0].metrics
    assert (metric.n, metric.mean, metric.minimum, metric.maximum) == (3, sum(values) / 3, min(values), max(values))
    assert oct(folder.file.stat().st_mode)[-3:] == "444"
    assert [run.result for run in found.runs] == [run.read().result_digest for run in runs.values()]
    assert len(sweeps.call("list").out.splitlines()) == 4
    assert sweeps.call("show", "sweep-").out == done.out
    assert sweeps.call("show", found.id, "--json").out == folder.file.read_text()
    assert Path("page.html").read_bytes() == sweep_page(folder)
    assert sweeps.call("report", found.id, "-o", "other.html").status == 0
    assert Path("other.html").read_bytes() == sweep_page(folder)


def test_the_digest_depends_on_the_runs_alone(sweeps: Played) -> None:
    digests = [
        sweep(sweeps, *words).line("digest") for words in (["--seeds", "0-2"], ["--seeds", "0-2", "--jobs", "3"])
    ]
    assert digests[0] == digests[1]
    sweeps.player.noise[0, 1] = b"noise"
    assert sweep(sweeps).line("digest") != digests[0]


def test_a_grid(sweeps: Played) -> None:
    sweeps.project.write("pass\n")
    done = sweep(sweeps, "--seeds", "0,1", "--grid", "epochs=1,2", "--grid", "lr=0.1")
    _, found = only(sweeps)
    assert [str(run.member) for run in found.runs] == [
        f"epochs={epochs}, lr=0.1, seed {seed}" for epochs in (1, 2) for seed in (0, 1)
    ]
    assert [run.read().recipe.code.arguments for run in records(sweeps).values()][2] == ("--epochs=2", "--lr=0.1")
    assert [(group.grid, group.finished) for group in found.groups] == [
        ({"epochs": "1", "lr": "0.1"}, 2),
        ({"epochs": "2", "lr": "0.1"}, 2),
    ]
    # What is played takes no arguments, so the grid changes nothing: that is reported.
    assert "epochs=1, lr=0.1, seed 0; epochs=2, lr=0.1, seed 0: neither seed nor argument changed a bit" in done.err


def test_seeds_that_change_nothing_are_named(sweeps: Played) -> None:
    sweeps.player.seeded = False
    done = sweep(sweeps)
    assert "the same result: seed 0; seed 1; seed 2: neither seed nor argument changed a bit" in done.err
    assert b"seed 0; seed 1; seed 2: neither seed" in sweep_page(only(sweeps)[0])


def test_a_script_that_fails_is_named_and_in_no_mean(sweeps: Played) -> None:
    sweeps.player.fails, sweeps.player.only = (0, 2), 1
    done = sweep(sweeps)
    assert done.status == 1
    assert "samebits: seed 1 failed and is in no mean: no" in done.err
    _, found = only(sweeps)
    assert (found.groups[0].finished, found.groups[0].failed, found.groups[0].metrics[0].n) == (2, ("seed 1",), 2)
    assert b"seed 1 failed and is in no mean: no" in sweep_page(only(sweeps)[0])
    sweeps.player.fails = None
    verified = sweeps.call("verify", found.id)
    assert (verified.status, verified.out.splitlines()[-1]) == (
        0, "identical: 2 of 2 runs; 1 failed runs have no result"
    )  # fmt: skip


def test_an_interrupted_sweep_is_continued_by_resuming(sweeps: Played) -> None:
    whole = sweep(sweeps).line("digest")
    shutil.rmtree(sweeps.project.runs)
    sweeps.player.dies, sweeps.player.only = (0, 3), 1
    stopped = sweep(sweeps)
    folder, found = only(sweeps)
    assert stopped.status == 2
    assert f"; the same command continues the sweep {found.id}" in stopped.err
    assert (found.finalized, sweeps.runs()) == (False, 2)
    for command in (["verify", found.id], ["report", found.id], ["show", found.id]):
        complaint = sweeps.call(*command).complaint
        assert complaint == f"the sweep {found.id} has no summary yet; continue it by the command that began it"

    sweeps.player.dies = None
    sweeps.player.trained.clear()
    done = sweep(sweeps)
    assert (done.status, done.line("digest")) == (0, whole), done.err
    assert f"continuing {found.id}: 1 of 3 runs have ended" in done.err
    # The last but one checkpoint is where a resumed run begins; the third member was trained whole.
    assert sweeps.player.trained == [(0, 2), (0, 3), (0, 0), (0, 1), (0, 2), (0, 3)]
    _, found = only(sweeps)
    assert [len(run.attempts) for run in found.runs] == [1, 2, 1]
    assert records(sweeps)["seed 1"].read().origin.resumes is not None
    assert folder.attempts(1)[-1].path.name == found.runs[1].id


def test_a_grid_in_any_order_is_continued(sweeps: Played) -> None:
    sweeps.project.write("pass\n")
    words = ["--seeds", "0,1", "--grid", "size=1,2", "--grid", "lr=0.1"]  # the file holds them sorted by name
    sweeps.player.dies, sweeps.player.only = (0, 3), 1
    assert sweep(sweeps, *words).status == 2
    name = only(sweeps)[1].id
    sweeps.player.dies = None
    done = sweep(sweeps, *words)
    assert done.status == 0, done.err
    assert f"continuing {name}: 1 of 4 runs have ended" in done.err


def test_a_run_that_is_gone_is_trained_again(sweeps: Played) -> None:
    sweeps.player.dies, sweeps.player.only = (0, 3), 2
    sweep(sweeps)
    folder, _ = only(sweeps)
    shutil.rmtree(folder.attempts(0)[0].path)
    sweeps.player.dies = None
    assert sweep(sweeps).status == 0
    # Within a second, a run gets the name of the one that is gone.
    assert [len(run.attempts) for run in only(sweeps)[1].runs][1:] == [1, 2]
    assert records(sweeps)["seed 0"].read().result_digest == only(sweeps)[1].runs[0].result


def test_a_run_of_another_recipe_is_refused(sweeps: Played) -> None:
    sweeps.player.dies, sweeps.player.only = (0, 3), 2
    sweep(sweeps)
    folder, _ = only(sweeps)
    os.rename(folder.attempts(1)[0].path, folder.attempts(0)[0].path.with_name("x"))
    shutil.rmtree(folder.attempts(0)[0].path)
    os.rename(folder.runs / "x", folder.attempts(0)[0].path)
    done = sweep(sweeps)
    assert (done.status, done.complaint.endswith("has another recipe than the sweep; do not rely on it")) == (2, True)


def test_the_code_may_be_edited_while_a_sweep_lasts(sweeps: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = sweeps.player._keep

    def keep(*arguments: Any) -> None:
        sweeps.project.write("raise SystemExit('edited')\n")
        kept(*arguments)

    monkeypatch.setattr(sweeps.player, "_keep", keep)
    assert sweep(sweeps).status == 0
    assert len({str(run.read().recipe.code.tree) for run in records(sweeps).values()}) == 1
    assert all("edited" not in (run.code / "train.py").read_text() for run in records(sweeps).values())


def test_other_code_is_another_sweep(sweeps: Played) -> None:
    sweeps.player.dies, sweeps.player.only = (0, 3), 1
    sweep(sweeps)
    sweeps.player.dies = None
    sweeps.project.write("pass\n")
    name = only(sweeps)[1].id
    done = sweep(sweeps)
    assert done.status == 0
    assert f"samebits: this is another sweep than the unfinished {name}: code.tree" in done.err
    assert "(3 of 3)" in done.err
    assert len(list((sweeps.project.runs / "sweeps").glob("sweep-*/sweep.json"))) == 2


def test_other_seeds_are_another_sweep(sweeps: Played) -> None:
    sweeps.player.dies, sweeps.player.only = (0, 3), 1
    sweep(sweeps)
    sweeps.player.dies = None
    name = only(sweeps)[1].id
    done = sweep(sweeps, "--seeds", "0-3")
    assert f"samebits: this is another sweep than the unfinished {name}: other seeds, or another grid" in done.err
    assert "4 runs" in done.err


def test_a_misspelled_name_of_the_grid_starts_nothing(sweeps: Played) -> None:
    sweeps.project.write("import argparse\np = argparse.ArgumentParser()\np.add_argument('--size')\np.parse_args()\n")
    done = sweep(sweeps, "--seeds", "0", "--grid", "sise=1,2")
    assert (done.status, done.complaint) == (2, "the script has no argument --sise; did you mean --size?")
    assert not list(sweeps.project.runs.glob("2*"))


def test_a_damaged_sweep_keeps_no_other_from_being_trained(sweeps: Played) -> None:
    damaged = sweeps.project.runs / "sweeps" / "sweep-0" / "sweep.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    done = sweep(sweeps, "--seeds", "0")
    assert done.status == 0, done.err
    assert "samebits: a sweep is passed over: runs/sweeps/sweep-0/sweep.json is not JSON" in done.err


def test_one_process_at_a_time(sweeps: Played) -> None:
    sweeps.player.dies, sweeps.player.only = (0, 3), 1
    sweep(sweeps)
    folder, found = only(sweeps)
    lock = lock_alive(folder.lock)
    try:
        complaint = sweep(sweeps).complaint
    finally:
        os.close(lock)
    assert complaint == f"the sweep {found.id} is being trained by another process; wait until that ends"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--jobs", "2"], "name the seeds of a sweep with --seeds, such as --seeds 0-9, and none with --seed"),
        (
            ["--seeds", "0-2", "--seed", "3"],
            "name the seeds of a sweep with --seeds, such as --seeds 0-9, and none with --seed",
        ),
        (["--seeds", "0", "--jobs", "0"], "--jobs is a number from 1, not 0"),
        (["--seeds", "4294967296"], "the seed must be from 0 to 4294967295 (NumPy takes 32 bits), not 4294967296"),
        (
            ["--seeds", "0", "--html", "no/such/page.html"],
            "cannot write no/such/page.html: it is a folder, or its folder does not exist; name a file",
        ),
    ],
)
def test_bad_input(sweeps: Played, options: list[str], complaint: str) -> None:
    done = sweep(sweeps, *options)
    assert (done.status, done.complaint) == (2, complaint)
    assert sweeps.runs() == 0


def test_names_of_sweeps(sweeps: Played, tmp_path: Path) -> None:
    assert (
        sweeps.call("verify", "sweep-1").complaint
        == "there is no sweep sweep-1 in runs/sweeps; name one of that folder"
    )
    sweep(sweeps, "--seeds", "0")
    sweep(sweeps, "--seeds", "1")
    assert "2 sweeps begin with sweep- (" in sweeps.call("verify", "sweep-").complaint
    runs = sweeps.project.runs
    for path in (runs / "sweeps").iterdir():
        assert find_sweep(str(path), tmp_path) == SweepDir(path)
    assert find_sweep("last", runs) is None


def test_verify_the_whole(sweeps: Played) -> None:
    sweep(sweeps)
    _, found = only(sweeps)
    done = sweeps.call("verify", found.id)
    assert (done.status, done.out.splitlines()[-1]) == (0, "identical: 3 of 3 runs"), done.err
    assert done.out.splitlines()[:3] == [f"seed {seed}: identical: 1 model" for seed in range(3)]
    assert sweeps.runs() == 6
    kept = json.loads(Path(done.line("verification")).read_text())
    assert kept["verified"] == {"id": found.id, "seal": found.checksum, "digest": str(found.digest)}
    assert [item["verdict"] for item in kept["sweep"]] == ["identical"] * 3


def test_verify_a_sample(sweeps: Played) -> None:
    sweep(sweeps, "--seeds", "0-9")
    done = sweeps.call("verify", "sweep-", "--sample", "2", "--sample-seed", "1", "--json")
    assert (done.status, json.loads(done.out)["of"]) == (0, 10)
    assert sweeps.runs() == 12
    done = sweeps.call("verify", "sweep-", "--sample", "2", "--sample-seed", "1")
    assert done.out.splitlines()[-1] == "identical: 2 of 10 runs, drawn with seed 1"


def test_a_run_that_does_not_repeat(sweeps: Played) -> None:
    sweep(sweeps)
    sweeps.player.noise[0, 1] = b"noise"
    done = sweeps.call("verify", "sweep-")
    assert (done.status, done.out.splitlines()[-1]) == (1, "different: 3 of 3 runs")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--segments"], "--segments is for a single run, not for a sweep; remove it, or name a run"),
        (["--against", "last"], "--against is for a single run, not for a sweep; remove it, or name a run"),
        (["--max-hours", "1"], "--max-hours is for a single run, not for a sweep; remove it, or name a run"),
        (["--max-disk", "0"], "--max-disk is for a single run, not for a sweep; remove it, or name a run"),
        (["--sample", "0"], "--sample is a number of runs from 1, not 0"),
        (["--sample-seed", "1"], "--sample-seed is for a sample; add --sample K"),
    ],
)
def test_bad_options_of_verify(sweeps: Played, options: list[str], complaint: str) -> None:
    sweep(sweeps, "--seeds", "0")
    done = sweeps.call("verify", "sweep-", *options)
    assert (done.status, done.complaint) == (2, complaint)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda v: v["groups"][0]["metrics"][0].update(mean=0.5), "the sweep's statistics is not that of its runs"),
        (lambda v: v["groups"][0].update(failed=["seed 9"]), "the sweep's statistics is not that of its runs"),
        (lambda v: v.update(digest=v["runs"][0]["recipe"]), "the sweep's digest is not that of its runs"),
        (
            lambda v: v["runs"][1].update(result=v["runs"][0]["result"]),
            "seed 1: the record of {id} is not the one that was summarized",
        ),
        (
            lambda v: v["runs"][1].update(checksum=v["runs"][0]["checksum"]),
            "seed 1: the record of {id} is not the one that was summarized",
        ),
    ],
)
def test_a_summary_of_other_runs_proves_nothing(
    sweeps: Played, edit: Callable[[dict[str, Any]], object], problem: str
) -> None:
    sweep(sweeps)
    folder, found = only(sweeps)
    forge(folder, edit)
    done = sweeps.call("verify", "sweep-")
    wanted = problem.replace("{id}", found.runs[1].id)
    assert (done.status, done.out.splitlines()) == (3, [wanted, "not comparable"])
    assert sweeps.runs() == 3


def test_a_changed_file_is_noticed(sweeps: Played) -> None:
    sweep(sweeps)
    folder, _ = only(sweeps)
    content = folder.file.read_bytes()
    folder.file.unlink()
    folder.file.write_bytes(content.replace(b'"n": 3', b'"n": 4'))
    done = sweeps.call("verify", "sweep-")
    assert (done.status, "the checksum does not match: the sweep was changed" in done.complaint) == (2, True)


def test_a_run_that_is_missing(sweeps: Played) -> None:
    sweep(sweeps)
    folder, found = only(sweeps)
    shutil.rmtree(folder.runs / found.runs[0].id)
    done = sweeps.call("verify", "sweep-")
    assert (done.status, done.out.splitlines()[-1]) == (3, "not comparable")
    assert done.out.startswith("seed 0: cannot read ")


def test_a_page_shows_hostile_text_as_text(sweeps: Played) -> None:
    sweeps.player.seeded = True
    sweep(sweeps, "--seeds", "0", "--", "</script><script>alert(1)</script>")
    assert b"<script>alert" not in sweep_page(only(sweeps)[0])
