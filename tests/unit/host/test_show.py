"""What `show` and `verify` report of features that were off."""

from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.environment import ReadBack
from samebits.core.record import INTERRUPTED, Outcome, Record
from samebits.core.retention import LAST, RetentionPolicy
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
