"""What `show` and `verify` report of features that were off."""

from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.checkpoint_store import CheckpointStore
from samebits.core.environment import ReadBack
from samebits.core.origin import ResumedRun
from samebits.core.record import INTERRUPTED, Outcome, Record
from samebits.core.retention import LAST, NONE, RetentionPolicy
from samebits.core.run_dir import RunDir
from samebits.core.script_uses import UnpinnedUse
from samebits.host.compare.run_diff import INPUTS, Difference
from samebits.host.compare.verdict import Tolerance, not_comparable
from samebits.host.rerun.divergence import DivergenceLocation
from samebits.host.rerun.verify import Verification, _unrecorded_cause, print_verification
from samebits.host.runs.show import _checkpoint_rows, _environment_rows, _outcome_rows, _recipe_rows, _setting_text


def test_a_feature_that_was_off_is_shown(example: Record) -> None:
    environment = replace(example.environment, features_off={"exact resume": "keras 9 is not tested"})
    assert ("off", "exact resume: keras 9 is not tested") in _environment_rows(environment)
    assert "off" not in dict(_environment_rows(example.environment))


def test_randomness_that_was_not_watched_is_not_ruled_out(example: Record) -> None:
    watched = replace(example, environment=replace(example.environment, entropy=()))
    unwatched = replace(example, environment=replace(example.environment, entropy=None))
    assert "not watched" not in _unrecorded_cause(watched, watched)
    assert "unseeded randomness was not watched in both runs" in _unrecorded_cause(watched, unwatched)


def test_seeds_are_those_of_the_start() -> None:
    assert _setting_text(ReadBack(name="seed of Keras", asked="0", found="0", by="keras")) == "0 at the start (keras)"
    assert _setting_text(ReadBack(name="Keras floatx", asked="x", found="x", by="keras")) == "x (keras)"


def test_one_thread(example: Record) -> None:
    recipe = replace(example.recipe, threads=1)
    assert dict(_recipe_rows(replace(example, recipe=recipe)))["  profile"] == "native, 1 thread, x86-64-v3"


def test_what_no_recipe_names_is_shown_and_named_as_the_cause(example: Record) -> None:
    use = UnpinnedUse(path="train.py", line=3, call='open("/x.csv")', kind="file", what="/x.csv", times=2)
    other = replace(example, environment=replace(example.environment, unpinned=(use,)))
    said = 'train.py:3: open("/x.csv") reads the file /x.csv'
    assert ("unpinned", f"{said} (2 times)") in _outcome_rows(other)
    cause = _unrecorded_cause(example, other)
    assert cause == f"no input differs, and the script reads what no recipe names: {said}"


@pytest.fixture
def killed(tmp_path: Path, example: Record) -> tuple[RunDir, Record]:
    """A run that was killed, without any checkpoint, and not begun here."""
    record = replace(example, outcome=Outcome(state=INTERRUPTED), resumable=None, retention=RetentionPolicy(keep=LAST))
    run = RunDir(tmp_path)
    run.image.mkdir()
    return run, record


def checkpoints(store: CheckpointStore, *names: str) -> None:
    store.folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (store.folder / f"{name}.json").touch()


def test_a_killed_container_still_has_its_checkpoints(killed: tuple[RunDir, Record]) -> None:
    """`resume` takes them over; until then they lie where the container wrote."""
    run, _ = killed
    rows = dict(_checkpoint_rows(*killed, "ID"))
    assert (rows["resumable"], rows["  begins at"]) == (
        "yes: samebits resume ID",
        "the beginning: it has no checkpoint",
    )
    staged = RunDir(run.staging).checkpoints
    checkpoints(staged, "0000-000014", "0000-000015")
    rows = dict(_checkpoint_rows(*killed, "ID"))
    assert (rows["resumable"], rows["checkpoints"].split()[0]) == ("yes: samebits resume ID", "2")
    staged.refusal.write_text('{"reasons": ["a generator"]}')
    rows = dict(_checkpoint_rows(*killed, "ID"))
    assert "a generator" in rows["resumable"]
    assert "  begins at" not in rows


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "the beginning: it has no checkpoint"),
        (["0000-000008"], "the beginning; it must reproduce phase 0 after 8 epochs before it continues"),
        (
            ["0000-000008", "0000-000070"],
            "phase 0 after 8 epochs; it must reproduce phase 0 after 70 epochs before it continues",
        ),
        (
            ["0000-000008", "0001-000001", "0001-000001-00000004"],
            "phase 1 after 1 epoch; it must reproduce phase 1 after 1 epoch, 4 steps into the next before it continues",
        ),
    ],
)
def test_where_a_killed_run_begins_again(
    killed: tuple[RunDir, Record], monkeypatch: pytest.MonkeyPatch, names: list[str], expected: str
) -> None:
    run, _ = killed
    checkpoints(run.checkpoints, *names)
    rows = dict(_checkpoint_rows(*killed, "ID"))
    assert rows["  begins at"] == expected + ("; or earlier: it was not begun here" if len(names) > 1 else "")
    monkeypatch.setattr("samebits.host.audit.resume_point.was_begun_here", lambda _: True)
    assert dict(_checkpoint_rows(*killed, "ID"))["  begins at"] == expected


def test_several_workers_begin_where_all_have_a_checkpoint(
    killed: tuple[RunDir, Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, record = killed
    record = replace(record, recipe=replace(record.recipe, world_size=2))
    checkpoints(run.checkpoints, "0000-000003", "0000-000004")
    checkpoints(run.checkpoints.of_worker(1), "0000-000002", "0000-000003")
    assert dict(_checkpoint_rows(run, record, "ID"))["  begins at"] == "the beginning: it has no checkpoint"
    monkeypatch.setattr("samebits.host.audit.resume_point.was_begun_here", lambda _: True)
    expected = "the beginning; it must reproduce phase 0 after 3 epochs before it continues"
    assert dict(_checkpoint_rows(run, record, "ID"))["  begins at"] == expected


def test_a_killed_run_without_checkpoints_says_why_it_cannot_be_resumed(killed: tuple[RunDir, Record]) -> None:
    run, record = killed
    rows = dict(_checkpoint_rows(run, replace(record, retention=RetentionPolicy(keep=NONE)), "ID"))
    assert rows == {"resumable": "no: it keeps no checkpoints (keep none); train it again"}


def test_a_run_that_never_began_names_the_one_that_can_be_resumed(killed: tuple[RunDir, Record]) -> None:
    run, record = killed
    run.image.rmdir()
    assert dict(_checkpoint_rows(run, record, "ID"))["resumable"].startswith("no: it ended before its training began")
    resumes = ResumedRun(id="BEFORE", checksum="", checkpoint=None)
    record = replace(record, origin=replace(record.origin, resumes=resumes))
    rows = dict(_checkpoint_rows(run, record, "ID"))
    assert rows["resumable"] == "no: it ended before its training began; resume BEFORE, as it did"


def test_where_runs_diverge_comes_before_the_lines_of_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = Verification(
        verified=RunDir(tmp_path),
        verdict=not_comparable("bitwise", ["why"]),
        tolerance=Tolerance(),
        by=RunDir(tmp_path / "other"),
        differences=(Difference(side=INPUTS, kind="code", name="a.csv", before="x", after="y", detail="+1"),),
        location=DivergenceLocation(where="epoch 1", note="no value differs there"),
    )
    print_verification(found)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "diverges", "inputs", "+1", "why", "not"]
