"""Verification in segments: how a run is divided, what is executed, which segment is named, and the share it covers.

A fake runner (`support.fake_runner`) stands in for the training.
"""

import itertools
import json
import multiprocessing
import os
import pickle
import random
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from samebits.core.checkpoint_store import Position, describe_reached
from samebits.core.digest import Digest
from samebits.core.errors import Terminated
from samebits.core.jsonio import canonical_json
from samebits.core.result import OutputFile
from samebits.core.run_dir import RunDir
from samebits.host.audit.checkpoint_audit import CheckpointAudit
from samebits.host.compare.ledger_diff import Divergence
from samebits.host.rerun import segment_worker
from samebits.host.rerun.request import RerunRequest
from samebits.host.rerun.segment_plan import Segment, cut_batches, draw_sample, find_segments, split_where_dropped
from samebits.host.rerun.segment_verdict import SegmentOptions, SegmentVerification
from samebits.host.rerun.segment_worker import SegmentJob, in_processes
from samebits.host.rerun.segments import verify_segments
from samebits.host.runs.registry import checksum_of
from samebits.host.runs.verification_file import read_verification
from support.command import ROOT
from support.fake_runner import Played, played, spoil
from support.lanes import long_tail
from support.machine import sleep_after_mark, started, stop_mark
from support.records import resumed

__all__ = ["played"]


class Here:
    """An executor that executes a job at once, and records it."""

    def __init__(self) -> None:
        self.jobs: list[SegmentJob] = []
        self.runs: list[Any] = []

    def submit(self, function: Callable[[SegmentJob], Path], job: SegmentJob, /) -> "Future[Path]":
        self.jobs.append(pickle.loads(pickle.dumps(job)))
        answer: Future[Path] = Future()
        answer.set_result(function(self.jobs[-1]))
        self.runs.append(RunDir(answer.result()).read())
        return answer

    @property
    def batches(self) -> list[tuple[str | None, str | None]]:
        resumed = [job.planned.setup.resumes for job in self.jobs]
        return [(one.run.to_dict()["checkpoint"], one.run.to_dict()["until"]) for one in resumed if one is not None]


@pytest.fixture
def here() -> Here:
    return Here()


def verify(
    played: Played, run: RunDir, here: Here, reported: list[str] | None = None, **chosen: Any
) -> SegmentVerification:
    scratch = played.project.folder / f"scratch-{time.monotonic_ns()}"
    scratch.mkdir()
    played.player.trained.clear()
    request = RerunRequest(runs=played.project.runs)
    lines: list[str] = [] if reported is None else reported
    options = SegmentOptions(**chosen)
    return verify_segments(run, request, options, executor=here, scratch=scratch, report=lines.append)


def _segments(run: RunDir) -> list[Segment]:
    return find_segments(CheckpointAudit.of(run, run.read()))


def test_a_run_is_cut_at_its_checkpoints(played: Played) -> None:
    """Nothing is trained after the last one: no segment begins there."""
    played.player.stages = (2, 3)
    segments = _segments(played.train("--keep", "all"))
    assert [segment.number for segment in segments] == [1, 2, 3, 4, 5]
    assert [segment.where for segment in segments] == [
        "phase 0, epoch 0",
        "phase 0, epoch 1",
        "phase 1, epoch 0",
        "phase 1, epoch 1",
        "phase 1, epoch 2",
    ]
    assert [(segment.before, segment.last) for segment in segments] == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 6)]
    assert segments[0].begin is None
    assert segments[-1].end is None
    assert all(one.end == other.begin for one, other in itertools.pairwise(segments))
    few = _segments(played.train())
    assert [segment.where for segment in few] == [
        "phase 0, epochs 0 to 1",
        "phase 1, epochs 0 to 1",
        "phase 1, epoch 2",
    ]
    assert [segment.trained for segment in few] == [2, 2, 1]


def _of(*weights: int) -> list[Segment]:
    return [
        Segment(number=number, begin=None, end=None, furthest=None, before=0, last=0, trained=weight)
        for number, weight in enumerate(weights, 1)
    ]


@pytest.mark.parametrize(
    ("weights", "parts", "expected"),
    [
        ((1,) * 20, 1, [20]),
        ((1,) * 20, 2, [10, 10]),
        ((1,) * 20, 3, [7, 6, 7]),
        ((1, 1), 5, [1, 1]),
        ((8, 1, 1, 1, 1, 1, 1, 1, 1), 2, [1, 8]),
        ((1,), 3, [1]),
    ],
)
def test_batches_are_even(weights: tuple[int, ...], parts: int, expected: list[int]) -> None:
    segments = _of(*weights)
    found = cut_batches(segments, parts)
    assert [len(batch) for batch in found] == expected
    assert [segment for batch in found for segment in batch] == segments


def test_a_sample_is_drawn_with_its_seed() -> None:
    segments = _of(*(1,) * 20)
    for seed in range(5):
        drawn = sorted(number + 1 for number in random.Random(seed).sample(range(20), 6))
        found = draw_sample(segments, sample=6, seed=seed)
        assert [segment.number for batch in found for segment in batch] == drawn
        assert all(one[-1].number + 1 < other[0].number for one, other in itertools.pairwise(found))
    assert draw_sample(segments, sample=20, jobs=2) == cut_batches(segments, 2)


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_the_same_again(played: Played, here: Here, jobs: int) -> None:
    played.player.stages = (2, 4)
    run = played.train("--keep", "all")
    before = {path: path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()}
    reported: list[str] = []
    found = verify(played, run, here, reported, jobs=jobs)
    assert (found.line, found.verdict.exit_status, reported) == ("identical (6 of 6 segments)", 0, [])
    assert len(here.jobs) == jobs
    assert here.batches[0][0] is None
    assert here.batches[-1][1] is None
    assert sorted(played.player.trained) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]
    assert {path: path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()} == before
    assert len({job.planned.spec.runs for job in here.jobs}) == jobs
    for record in here.runs[:-1]:
        until = resumed(record).until
        assert until is not None
        assert resumed(record).checksum == checksum_of(run)
        assert record.outcome.message == describe_reached(until)
    assert played.runs() == 1, "nothing that was executed stays among the runs"


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("epoch", [0, 3, 6, 18, 19])
def test_a_perturbed_epoch_is_its_segment(played: Played, here: Here, epoch: int, jobs: int) -> None:
    played.player.stages = (20,)
    played.player.noise[0, epoch] = b"a cosmic ray"
    run = played.train("--keep", "all")
    played.player.noise.clear()
    reported: list[str] = []
    found = verify(played, run, here, reported, jobs=jobs)
    where = f"segment {epoch + 1} (phase 0, epoch {epoch}): from fit 0, epoch {epoch} on: "
    assert len(reported) == 1
    assert reported[0].startswith(f"different: {where}")
    assert reported[0].endswith("tensors.trainable")
    assert found.line == f"{reported[0]} (1 of 20 segments)"
    assert found.verdict.exit_status == 1
    assert [item.kind for item in found.judged].count("identical") == 19


def _kept_with(run: RunDir, place: Position, **more: Any) -> None:
    """Add state to a checkpoint, with a valid checksum."""
    path, found = run.checkpoints.path(place), run.checkpoints.read(place)
    path.unlink()
    path.write_bytes(canonical_json(replace(found, state={**found.state, **more}).to_dict()))


def test_a_state_that_the_training_did_not_end_in(played: Played, here: Here) -> None:
    """The ledger lines agree, but the next segment begins from another state."""
    run = played.train("--keep", "all")
    _kept_with(run, Position(phase=0, epoch=2), feed={"drawn": 3})
    found = verify(played, run, here)
    place = "segment 2 (phase 0, epoch 1)"
    assert found.line == f"different: {place}: the state at its end: feed (1 of 4 segments)"
    assert here.batches == [(None, None), ("0000-000002", None)]


def test_what_the_script_itself_keeps_is_told_and_not_judged(played: Played, here: Here) -> None:
    clock = {"object": {"class": "Clock", "attributes": {"began": {"float": "0x1p+0"}}, "ours": True, "of": []}}
    objects = {"roots": [["callback 0 (Clock)", clock]], "globals": []}
    played.player.state = {"objects": {"roots": [], "globals": []}}
    run = played.train("--keep", "all")
    _kept_with(run, Position(phase=0, epoch=2), objects=objects)
    found = verify(played, run, here)
    exception = "except state of the script that training does not use: callback 0 (Clock).began"
    assert (found.line, found.verdict.exit_status) == (f"identical (4 of 4 segments; {exception})", 0)
    assert found.verdict.reasons == ()
    assert [segment["own"] for segment in found.to_dict()["segments"]] == [[], ["callback 0 (Clock).began"], [], []]


def test_an_end_that_was_not_kept(played: Played, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    run = played.train("--keep", "all")
    monkeypatch.setattr(played.player, "_keep", lambda *_: None)
    found = verify(played, run, here)
    assert [item.kind for item in found.judged] == ["not comparable"] * 3 + ["identical"]
    assert "segment 1 (phase 0, epoch 0): the state at its end cannot be compared: cannot read " in found.line


def test_each_of_several_is_found(played: Played, here: Here) -> None:
    played.player.stages = (3, 3)
    played.player.noise = {(0, 1): b"a", (1, 0): b"b", (1, 1): b"c"}
    run = played.train("--keep", "all")
    played.player.noise.clear()
    found = verify(played, run, here)
    assert [item.kind == "different" for item in found.judged] == [False, True, False, True, True, False]
    assert found.line.startswith("different: segment 2 (phase 0, epoch 1): ")
    assert found.line.endswith(" (3 of 6 segments)")
    assert here.batches == [
        (None, None), ("0000-000002", None), ("0001-000001", None), ("0001-000002", None)
    ]  # fmt: skip


def test_a_changed_line_of_the_ledger_stops_it_before(played: Played, here: Here) -> None:
    run = played.train("--keep", "all")
    spoil(run.ledger, b'"epoch":2', b'"epoch":7')
    found = verify(played, run, here)
    assert (found.line, found.verdict.exit_status) == ("not comparable", 3)
    assert not here.jobs


def test_a_result_that_differs_behind_the_last_line(played: Played, here: Here) -> None:
    run = played.train("--keep", "all")
    played.player.unlike = b"other"
    found = verify(played, run, here)
    assert found.line.startswith("different: segment 4 (phase 0, epoch 3): from line 5 on: models")


def test_an_output_that_differs(played: Played, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    run = played.train("--keep", "all")
    whole = played.player._seal

    def seal(folder: RunDir, record: Any, *rest: Any) -> int:
        if record.result is not None:
            outputs = (OutputFile(path="a.txt", by="bytes", digest="sha256:0"),)
            record = replace(record, result=replace(record.result, outputs=outputs))
        return whole(folder, record, *rest)

    monkeypatch.setattr(played.player, "_seal", seal)
    found = verify(played, run, here)
    assert found.line.startswith("different: segment 4 (phase 0, epoch 3): only output files differ: a.txt; ")


def test_a_sample(played: Played, here: Here) -> None:
    played.player.stages = (10,)
    run = played.train("--keep", "all")
    found = verify(played, run, here, sample=3, seed=5)
    assert found.line == "identical in 3 of 10 segments, drawn with seed 5"
    numbers = sorted(number + 1 for number in random.Random(5).sample(range(10), 3))
    assert [item.segment.number for item in found.judged] == numbers
    assert sorted(epoch + 1 for _, epoch in played.player.trained) == numbers
    assert found.to_dict()["sample"] == {"segments": 3, "seed": 5}
    assert verify(played, run, here, sample=10).line == "identical (10 of 10 segments)"


def test_a_script_that_fails_the_second_time(played: Played, here: Here) -> None:
    """The segments after it are executed from their own checkpoints."""
    run = played.train("--keep", "all")
    played.player.fails = 0, 1
    found = verify(played, run, here)
    assert [item.kind for item in found.judged] == ["identical", "different", "identical", "identical"]
    assert found.judged[1].reason == "it ended before fit 0, epoch 1: failed: no"


def test_an_execution_that_was_killed_tells_nothing(played: Played, here: Here) -> None:
    run = played.train("--keep", "all")
    played.player.dies = 0, 1
    found = verify(played, run, here)
    assert [item.kind for item in found.judged] == ["identical"] + ["not comparable"] * 3
    assert found.verdict.exit_status == 3
    assert found.line.startswith("not comparable: segment 2 (phase 0, epoch 1): it ended before fit 0, epoch 1: ")
    assert "the training process was killed by SIGKILL" in found.line


def test_no_segment_begins_at_a_damaged_checkpoint(
    played: Played, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    run = played.train("--keep", "all")
    (text,) = run.checkpoints.read(Position(phase=0, epoch=2)).objects
    path = run.checkpoints.objects / Digest.parse(text).hex
    spoil(path, path.read_bytes()[:1], b"?")
    found = verify(played, run, here)
    assert found.line == "identical (3 of 3 segments)"
    assert "it was changed after it was written; no segment begins there" in capsys.readouterr().err
    assert found.judged[1].segment.where == "phase 0, epochs 1 to 2"


def test_what_is_kept(played: Played, here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    """A verification with a checksum, in a folder of its own that is not a run."""
    run = played.train()
    found = verify(played, run, here)
    assert "the run keeps few checkpoints (keep last): 2 segments; see --keep all" in capsys.readouterr().err
    assert found.kept == played.project.runs / f"{run.path.name}-segments" / "verification.json"
    written = read_verification(found.kept).values
    assert written == found.to_dict()
    assert (written["verdict"], written["by"], written["of"], written["sample"]) == ("identical", None, 2, None)
    assert written["verified"]["seal"] == checksum_of(run)
    assert written["segments"] == [
        {
            "number": 1, "where": "phase 0, epochs 0 to 2", "begin": None, "end": "0000-000003", "verdict": "identical",
            "reason": "", "own": [],
        },
        {
            "number": 2, "where": "phase 0, epoch 3", "begin": "0000-000003", "end": None, "verdict": "identical",
            "reason": "", "own": [],
        },
    ]  # fmt: skip
    again = verify(played, run, here)
    assert again.kept is not None
    assert again.kept.parent.name == f"{run.path.name}-segments-2"
    assert played.call("verify", run.path.name).out.splitlines()[-1] == "identical: 1 model"


def test_a_resumed_run_has_segments_like_any_other(played: Played, here: Here) -> None:
    played.player.dies = 0, 2
    run = played.train("--keep", "all")
    played.player.dies = None
    again = RunDir(played.call("resume", run.path.name).run)
    assert verify(played, again, here, jobs=2).line == "identical (4 of 4 segments)"


def test_side_by_side_they_share_no_folder(played: Played) -> None:
    played.player.stages = (12,)
    run = played.train("--keep", "all")
    scratch = played.project.folder / "scratch"
    scratch.mkdir()
    with ThreadPoolExecutor(4) as executor:
        request, options = RerunRequest(runs=played.project.runs), SegmentOptions(jobs=4)
        found = verify_segments(run, request, options, executor=executor, scratch=scratch)
    assert found.line == "identical (12 of 12 segments)"
    assert len(list(scratch.glob("*/*/record.json"))) == 4


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--segments", "--against", "last"), "--segments and --against exclude each other; remove one"),
        (("--segments", "--locate"), "--segments and --locate exclude each other; remove one"),
        (("--segments", "--rel", "1"), "--segments and --rel exclude each other; remove one"),
        (
            ("--segments", "--level", "metrics"),
            "--segments needs the level bitwise, not metrics; add --level bitwise",
        ),
        (("--jobs", "2"), "--jobs is for a verification in segments; add --segments"),
        (("--sample", "2"), "--sample is for a verification in segments; add --segments"),
        (("--sample-seed", "0"), "--sample-seed is for a verification in segments; add --segments"),
        (("--segments", "--sample-seed", "0"), "--sample-seed is for a sample; add --sample K"),
        (("--segments", "--jobs", "0"), "--jobs is a number from 1, not 0"),
        (("--segments", "--sample", "0"), "--sample is a number of segments from 1, not 0"),
    ],
)
def test_what_does_not_go_together(played: Played, options: tuple[str, ...], complaint: str) -> None:
    played.train("--keep", "all")
    done = played.call("verify", "last", *options)
    assert (done.status, done.out, done.complaint) == (2, "", complaint)


def test_runs_without_segments(played: Played) -> None:
    run = played.train("--keep", "none")
    done = played.call("verify", "last", "--segments")
    assert done.status == 2
    assert done.complaint == (
        f"the run {run.path.name} keeps no checkpoints, and so has no segments; train with --keep all"
    )
    run = played.train("--keep", "all")
    run.checkpoints.refuse(["workers share a generator"])
    done = played.call("verify", run.path.name, "--segments")
    assert done.status == 2
    assert done.complaint.endswith("cannot be verified in segments: workers share a generator; verify it whole")


def test_a_recorded_level_that_is_not_bitwise(played: Played) -> None:
    played.train("--keep", "all", "--level", "documented")
    complaint = played.call("verify", "last", "--segments").complaint
    assert complaint == "--segments needs the level bitwise, not documented; add --level bitwise"


def test_the_command(played: Played, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command, with a fake executor: the segment that differs comes before the last line."""
    from contextlib import nullcontext

    monkeypatch.setattr("samebits.host.rerun.segments.in_processes", lambda _: nullcontext(here))
    played.player.noise[0, 1] = b"noise"
    run = played.train("--keep", "all")
    played.player.noise.clear()
    done = played.call("verify", "last", "--segments", "--jobs", "2")
    assert done.status == 1
    bad, kept, last = done.out.splitlines()
    assert bad.startswith("different: segment 2 (phase 0, epoch 1): from fit 0, epoch 1 on: ")
    assert kept == f"verification {played.project.runs}/{run.path.name}-segments/verification.json"
    assert last == f"{bad} (1 of 4 segments)"
    assert f"samebits: {bad}" in done.err.splitlines()
    assert not list(played.project.runs.glob(".segments-*"))
    done = played.call("verify", "last", "--segments", "--json", "--sample", "1", "--sample-seed", "3")
    written = json.loads(done.out)
    assert (len(written["segments"]), written["of"], written["sample"]) == (1, 4, {"segments": 1, "seed": 3})


def test_data_that_changed_is_not_comparable(played: Played) -> None:
    played.train("--keep", "all")
    (played.project.data / "numbers.csv").write_text("1\n")
    done = played.call("verify", "last", "--segments")
    assert (done.status, done.out.splitlines()) == (
        3, ["data: not what was recorded: numbers.csv", "not comparable"]
    )  # fmt: skip


def test_a_batch_is_stopped_where_it_diverges(played: Played, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a main thread, nothing is trained after the first line that differs."""
    monkeypatch.setattr(segment_worker, "LEDGER_POLL_SECONDS", 0.02)
    played.player.stages = (20,)
    run = played.train("--keep", "all")
    played.player.noise[0, 4] = b"noise"
    slept = played.player._keep

    def keep(*arguments: Any) -> None:
        slept(*arguments)
        time.sleep(0.05)

    monkeypatch.setattr(played.player, "_keep", keep)
    found = verify(played, run, here)
    assert [item.segment.number for item in found.judged if item.kind == "different"] == [5]
    assert len(played.player.trained) < 5 + 15 + 10
    assert len(here.jobs) == 2


def test_sigterm_from_elsewhere_is_not_taken_for_that(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    run = played.train("--keep", "all")
    monkeypatch.setattr(played.player, "_keep", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Terminated):
        verify(played, run, Here())


def _interrupted(pool: ProcessPoolExecutor, folder: Path) -> None:
    for number in range(3):
        pool.submit(sleep_after_mark, folder / str(number))
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.05)
    raise KeyboardInterrupt


def test_what_processes_do_is_stopped_with_them(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), in_processes(2) as pool:
        _interrupted(pool, tmp_path)
    assert time.monotonic() - begun < 300


_SUBMITS = """
import sys, time
from pathlib import Path
from support.lanes import long_tail
from support.machine import sleep_after_mark
from samebits.host.rerun.segment_worker import in_processes
if __name__ == "__main__":
    with in_processes(1) as pool:
        pool.submit(sleep_after_mark, Path("mark"))
        time.sleep(600)
"""


def test_processes_do_not_outlive_the_one_that_submits(tmp_path: Path) -> None:
    (tmp_path / "submits.py").write_text(_SUBMITS)
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    mark = tmp_path / "mark"
    with started([sys.executable, "submits.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}) as process:
        while not (mark.exists() and mark.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    assert _ends(int(mark.read_text()), 60)


def _ends(process: int, seconds: int) -> bool:
    """Whether a process ends within this time. Its object may not tell: a thread of the pool waits for it, too."""
    status = Path(f"/proc/{process}/status")
    for _ in range(seconds * 10):
        with suppress(FileNotFoundError, ProcessLookupError):
            if "\nState:\tZ" not in status.read_text():
                time.sleep(0.1)
                continue
        return True
    return False


_TRAINS = """
import signal, sys
from pathlib import Path
from support.machine import stop_slowly_after_mark
from samebits.host.interrupts import catch_signals
from samebits.host.rerun.segment_worker import in_processes
if __name__ == "__main__":
    catch_signals()
    try:
        with in_processes(1) as pool:
            pool.submit(stop_slowly_after_mark, Path("mark"), int(sys.argv[1])).result()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one that comes as late as this has nothing to end
        sys.exit(130)
"""


@pytest.mark.parametrize("times", [1, 2, 3])
def test_ctrl_c_ends_processes_however_often_it_comes(tmp_path: Path, times: int) -> None:
    """The third one ends a process that two SIGTERMs do not end."""
    (tmp_path / "trains.py").write_text(_TRAINS)
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    mark = tmp_path / "mark"
    command = [sys.executable, "trains.py", str(times)]
    with started(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}) as process:
        while not (mark.exists() and mark.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        for number in range(1, times + 1):
            process.send_signal(signal.SIGINT)
            # The next one comes once this one was passed on: it neither meets it nor comes after the end.
            while number < times and not stop_mark(mark, number).exists():
                assert process.poll() is None
                time.sleep(0.05)
        assert process.wait(60) == 130
    assert not Path("/proc", mark.read_text()).exists()


@pytest.mark.parametrize("signals", long_tail([1, 2], (2,)))
def test_a_signal_before_a_step_begins_does_not_spare_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: int
) -> None:
    """Each arrives at the first instruction of a step that ends them."""
    listed = multiprocessing.active_children
    left = [KeyboardInterrupt] * signals

    def interrupted() -> list[BaseProcess]:
        if left:
            raise left.pop()
        return listed()

    def interrupt(pool: ProcessPoolExecutor) -> None:
        mark = tmp_path / "mark"
        pool.submit(sleep_after_mark, mark)
        while not (mark.exists() and mark.read_text()):
            time.sleep(0.05)
        monkeypatch.setattr(multiprocessing, "active_children", interrupted)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), in_processes(1) as pool:
        interrupt(pool)
    worker = int((tmp_path / "mark").read_text())
    try:
        assert _ends(worker, 10)
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


def test_a_sample_that_differs_says_what_it_covers(played: Played, here: Here) -> None:
    played.player.stages = (6,)
    played.player.noise = {(0, epoch): b"noise" for epoch in range(6)}
    run = played.train("--keep", "all")
    played.player.noise.clear()
    found = verify(played, run, here, sample=2)
    assert found.line.startswith("different: segment ")
    assert found.line.endswith(" (2 of 2 segments of 6, drawn with seed 0)")


def test_a_round_is_a_place() -> None:
    line = {"event": "round", "stage": 1, "round": 3, "model": "m", "metrics": {}, "tensors": {"trainable": "a"}}
    divergence = Divergence(number=3, one=line, other={**line, "tensors": {"trainable": "b"}})
    assert divergence.where == "phase 1, round 3"
    assert [name for name, _, _ in divergence.differences()] == ["tensors.trainable"]


def test_batches_end_where_no_run_keeps_a_checkpoint() -> None:
    segments = [replace(one, end=Position(phase=0, epoch=one.number)) for one in _of(*(1,) * 5)]
    whole = [tuple(segments[:3]), tuple(segments[3:])]
    assert split_where_dropped(whole, lambda _: True) == whole
    assert split_where_dropped(whole, lambda _: False) == [(segment,) for segment in segments]
    kept = segments[0].end
    assert split_where_dropped(whole, lambda end: end == kept)[0] == tuple(segments[:2])
