"""Which features are off: missing names, names of a different form, and versions that were not tested."""

import re
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.determinism_profile import Profile
from samebits.core.errors import SettingError
from samebits.core.origin import Origin, ResumedRun
from samebits.core.record import read_record
from samebits.core.trace_level import Trace
from samebits.core.trial import Trial
from samebits.runner.compat import features
from samebits.runner.compat.requirements import required_features
from samebits.runner.compat.self_test import PrivateNames, form_of, library_of, read_known_forms
from support.command import EXAMPLE

_FEATURE = features.Feature(name="a feature", needs=("keras:Model._fit", "keras:Model#_held"))
_ESSENTIAL = replace(_FEATURE, essential=True)
_FORMS = {"keras:Model._fit": "self, x=", "keras:Model#_held": "there"}
_KNOWN = {"keras": {"3.9.0": {}, "3.15.1": _FORMS}}


class Model:
    def __init__(self) -> None:
        self._held = 1

    def _fit(self, x: int = 1) -> None:
        pass


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = types.ModuleType("keras")
    module.Model = type("Model", (Model,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keras", module)
    return module


def _names(version: str = "3.15.1") -> PrivateNames:
    return PrivateNames({"keras": version}, _KNOWN)


def test_all_is_there(keras: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert keras
    names = _names()
    names.require(_FEATURE)
    assert names.allow(_FEATURE)
    assert (names.off, capsys.readouterr().err) == ({}, "")


def test_an_unknown_version(keras: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A feature is off, and reported once. An essential one may run where all forms are those of the newest version."""
    assert keras
    names = _names("3.99.0")
    assert [names.allow(_FEATURE) for _ in range(2)] == [False, False]
    why = "keras 3.99.0 is not one of the tested versions (3.9.0, 3.15.1)"
    assert capsys.readouterr().err == f"samebits: a feature is off: {why}\n"
    assert names.off == {"a feature": why}
    assert names.allow(_ESSENTIAL)


@pytest.mark.parametrize("feature", [_FEATURE, _ESSENTIAL])
@pytest.mark.parametrize("version", ["3.15.1", "3.99.0"])
def test_another_signature(keras: Any, feature: features.Feature, version: str) -> None:
    exec("def _fit(self, data): pass", vars(keras))
    keras.Model._fit = keras._fit
    why = f"keras {version} has a different form of keras:Model._fit: self, data, expected self, x="
    if feature is _FEATURE and version == "3.99.0":
        why = "keras 3.99.0 is not one of the tested versions (3.9.0, 3.15.1)"
    assert _names(version).objection(feature) == why


@pytest.mark.parametrize("feature", [_FEATURE, _ESSENTIAL])
def test_a_name_that_is_not_there(keras: Any, feature: features.Feature) -> None:
    keras.Model = type("Model", (), {"_fit": Model._fit})
    assert _names("3.99.0").objection(feature) == "keras 3.99.0 has no keras:Model#_held"
    with pytest.raises(SettingError) as raised:
        _names().require(_ESSENTIAL)
    assert str(raised.value) == (
        "this run needs a feature, which is not available here: keras 3.15.1 has no keras:Model#_held; use the locked"
        " versions"
    )


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("json:loads", "s, *, cls=, object_hook=, parse_float=, parse_int=, parse_constant=, object_pairs_hook=, **kw"),
        ("random:_inst", "there"),
        ("random:Random#gauss_next", "there"),
        ("random:Random#_nothing", None),
        ("random:_nothing", None),
        ("no_such_module:name", None),
    ],
)
def test_the_form_of_a_name(name: str, form: str | None) -> None:
    assert (form_of(name) or "").replace(" *,", "") == (form or "").replace(" *,", "")


@pytest.mark.usefixtures("keras")
def test_a_name_that_is_another_in_older_versions() -> None:
    assert form_of("keras:Model._fit_all|_fit") == form_of("keras:Model._fit") == form_of("keras:Model._fit|_fit_all")
    assert form_of("keras:Model._fit_all|_fit_more") is None


def test_every_combination_in_the_manual_has_its_forms() -> None:
    """`tools/prove_versions.py` has run on these; a version beside them was not tested."""
    page = (Path(__file__).parents[3] / "docs" / "packages.md").read_text()
    rows = re.findall(r"^\| (2\.\d+\.\d+)[^|]*\| (3\.\d+\.\d+) \| 3\.\d+ \|", page, re.MULTILINE)
    known = read_known_forms()
    assert {tensorflow for tensorflow, _ in rows} == set(known["tensorflow"])
    assert {keras for _, keras in rows} == set(known["keras"])


def test_the_table_holds_every_name() -> None:
    """Each tested version of a library has a form for each name. `tools/see_private_names.py` adds a new version.

    Several workers were tried with the locked versions alone: a version without their names is refused.
    """
    untried = set(features.MULTI_WORKER.needs)
    known = read_known_forms()
    assert set(known) == {"keras", "numpy", "python", "tensorflow"}
    for library, rows in known.items():
        wanted = {name for name in features.NAMES if library_of(name) == library}
        assert {frozenset(row) - untried for row in rows.values()} == {frozenset(wanted) - untried}, library
        assert any(set(row) == wanted for row in rows.values()), library


def test_the_table_knows_the_locked_versions() -> None:
    lock = Path(__file__).parents[3] / "requirements.lock"
    pins = dict(line.split()[0].split("==") for line in lock.read_text().splitlines() if line[:1].isalpha())
    known = read_known_forms()
    assert all(pins[name] in known[library] for name, library in [("keras", "keras"), ("numpy", "numpy")])
    assert pins["tensorflow-cpu"] in known["tensorflow"]


_ALWAYS = [features.SETTINGS, features.OBSERVER, features.ORDERED_SUMS]


@pytest.mark.parametrize(
    ("options", "profile", "wanted"),
    [
        ({}, Profile(name="native", threads=1), []),
        ({}, Profile(name="native", threads=2), [features.BINCOUNT_GUARD]),
        ({}, Profile(name="portable", threads=1), [features.OP_AUDIT, features.EXACT_OPS]),
        ({"strict": True}, Profile(name="native", threads=1), [features.ENTROPY_MONITOR]),
        ({"trace": Trace(level="step")}, Profile(name="native", threads=1), []),
        ({"trace": Trace(level="step", loop=0, step=3)}, Profile(name="native", threads=1), [features.STEP_TRACE]),
        (
            {"trial": Trial()},
            Profile(name="native", threads=1),
            [features.ENTROPY_MONITOR, features.NONDETERMINISTIC_OPS, features.STEP_TRACE],
        ),
        (
            {"origin": Origin(script="train.py", resumes=ResumedRun(id="a", checksum="b"))},
            Profile(name="native", threads=1),
            [features.EXACT_RESUME],
        ),
    ],
)
def test_required_features(options: dict[str, Any], profile: Profile, wanted: list[features.Feature]) -> None:
    record = replace(read_record(EXAMPLE), **options)
    assert required_features(record, profile) == _ALWAYS + wanted


def test_the_order_that_a_recipe_names_is_needed() -> None:
    record = read_record(EXAMPLE)
    record = replace(record, recipe=replace(record.recipe, shuffle="per-epoch"))
    assert required_features(record, Profile(name="native", threads=1)) == [*_ALWAYS, features.EPOCH_SHUFFLE]


def test_every_feature_has_a_name_of_its_own() -> None:
    assert len({feature.name for feature in features.FEATURES}) == len(features.FEATURES)
