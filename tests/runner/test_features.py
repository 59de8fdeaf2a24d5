"""Features that need private names: each is off where a name is missing or differs, and results stay right."""

import json
import os
import subprocess

import pytest

from samebits.core.record import Resumability
from samebits.core.trace_level import Trace
from samebits.core.trial import Trial
from samebits.host.image.build_context import staged_context
from samebits.host.launch.venv import locked_python
from samebits.runner.compat.self_test import read_known_forms
from support.command import SCRIPTS, Project
from support.sessions import run_sessions

pytestmark = pytest.mark.usefixtures("locked")


def test_each_spoiled_name_turns_its_feature_off() -> None:
    done = subprocess.run(
        [locked_python(), SCRIPTS / "spoiled_names.py"],
        env={**os.environ, "PYTHONPATH": str(staged_context() / "source"), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    features = json.loads(done.stdout)
    assert len(features) == 13
    for feature in features.values():
        assert feature["as_is"] is None
        for library, why in feature["unknown"].items():
            tested = feature["essential"] or library == "python"
            assert why is None if tested else why.startswith(f"{library} 99.0.0 is not one of the tested versions"), why
        for name, (missing, *different) in feature["spoiled"].items():
            assert missing.endswith(f" has no {name}")
            # A replaced class also lacks the methods and attributes that are tested.
            also = (f" a different form of {name}: unheard_of", f" no {name}.", f" no {name}#")
            assert all(any(text in why for text in also) for why in different)


_TESTED = {library: ", ".join(rows) for library, rows in read_known_forms().items()}
_OF_KERAS = f"keras 3.99.0 is not one of the tested versions ({_TESTED['keras']})"
_OF_TENSORFLOW = f"tensorflow 2.99.0 is not one of the tested versions ({_TESTED['tensorflow']})"
_NEWER = {"versions": {"keras": "3.99.0"}}
_BOTH = {"versions": {"keras": "3.99.0", "tensorflow": "2.99.0"}}


def test_what_is_off_is_recorded_and_changes_no_result(project: Project) -> None:
    done, err = run_sessions(project, {}, _NEWER, _BOTH | {"trace": Trace(level="step")})
    assert [(one.status, one.left) for one in done] == [(0, [])] * 3, err
    assert len({str(one.record.result_digest) for one in done}) == 1
    plain, newer, both = (one.record for one in done)
    assert plain.resumable == Resumability(resumable=True)
    assert plain.environment.features_off is None
    assert plain.environment.entropy == ()

    off = {"shuffling per epoch": _OF_KERAS, "exact resume": _OF_KERAS}
    assert newer.environment.features_off == off
    assert newer.resumable == Resumability(resumable=False, reasons=(f"exact resume is off: {_OF_KERAS}",))
    assert not done[1].folder.checkpoints.positions()
    reported = [line for line in err.splitlines() if " is off: " in line]
    assert reported[:2] == [f"samebits: {name} is off: {why}" for name, why in off.items()]

    of_tensorflow = {"the trace of steps", "the entropy monitor", "repeatable files of TensorFlow"}
    assert set(both.environment.features_off or {}) == {*off, *of_tensorflow}
    assert both.environment.entropy is None  # not monitored
    assert done[2].lines("step") == []
    assert [line["reason"] for line in done[2].lines("trace off")] == [_OF_TENSORFLOW]


@pytest.mark.parametrize(
    ("case", "feature"),
    [
        ({"gone": ["keras:Model._flatten_layers"]}, "observing the training"),
        ({"gone": ["tensorflow.python.framework.config:is_op_determinism_enabled"]}, "reading the settings back"),
        (_BOTH | {"strict": True}, "the entropy monitor"),
        (_BOTH | {"shuffle": "per-epoch"}, "shuffling per epoch"),
        (_BOTH | {"trial": Trial(steps=3)}, "the entropy monitor"),
        (_BOTH | {"trace": Trace(level="step", fit=0)}, "the trace of steps"),
    ],
)
def test_a_run_without_what_it_needs_is_refused(project: Project, case: dict[str, object], feature: str) -> None:
    (done,), err = run_sessions(project, case)
    assert done.status == 2
    assert done.record.outcome.state == "failed"
    assert f"samebits: this run needs {feature}, which is not available here: " in err
    assert (done.record.outcome.message or "").startswith(f"this run needs {feature}")
