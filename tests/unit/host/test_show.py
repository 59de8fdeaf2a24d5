"""What `show` and `verify` report of features that were off."""

from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.checkpoint_store import LAST, RetentionPolicy
from samebits.core.record import INTERRUPTED, Outcome, Record
from samebits.core.run_dir import RunDir
from samebits.host.compare.run_diff import INPUTS, Difference
from samebits.host.compare.verdict import Tolerance, not_comparable
from samebits.host.rerun.divergence import DivergenceLocation
from samebits.host.rerun.verify import Verification, _unrecorded_cause, print_verification
from samebits.host.runs.show import _checkpoint_rows, _environment_rows


def test_a_feature_that_was_off_is_shown(example: Record) -> None:
    environment = replace(example.environment, features_off={"exact resume": "keras 9 is not tested"})
    assert ("off", "exact resume: keras 9 is not tested") in _environment_rows(environment)
    assert "off" not in dict(_environment_rows(example.environment))


def test_randomness_that_was_not_watched_is_not_ruled_out(example: Record) -> None:
    watched = replace(example, environment=replace(example.environment, entropy=()))
    unwatched = replace(example, environment=replace(example.environment, entropy=None))
    assert "not watched" not in _unrecorded_cause(watched, watched)
    assert "unseeded randomness was not watched in both runs" in _unrecorded_cause(watched, unwatched)


def test_a_killed_container_still_has_its_checkpoints(tmp_path: Path, example: Record) -> None:
    """`resume` takes them over; until then they lie where the container wrote."""
    record = replace(example, outcome=Outcome(state=INTERRUPTED), resumable=None, retention=RetentionPolicy(keep=LAST))
    run = RunDir(tmp_path)
    run.image.mkdir()
    rows = dict(_checkpoint_rows(run, record))
    assert rows["resumable"] == "yes, from the beginning: it has no checkpoint"
    staged = RunDir(run.staging).checkpoints
    staged.folder.mkdir(parents=True)
    for name in ("0000-000014.json", "0000-000015.json"):
        (staged.folder / name).touch()
    rows = dict(_checkpoint_rows(run, record))
    assert (rows["resumable"], rows["checkpoints"].split()[0]) == ("yes", "2")
    staged.refusal.write_text('{"reasons": ["a generator"]}')
    assert "a generator" in dict(_checkpoint_rows(run, record))["resumable"]


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
