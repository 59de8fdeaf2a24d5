"""What `show` and `verify` report of features that were off."""

from dataclasses import replace

from samebits.core.environment import ReadBack
from samebits.core.record import Record
from samebits.core.script_uses import UnpinnedUse
from samebits.host.rerun.verify import _unrecorded_cause
from samebits.host.runs.show import _environment_rows, _outcome_rows, _recipe_rows, _setting_text


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
