"""The steps of a trial: counted however they are made, timed by model; the trial ends after the last."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from samebits.core.run_config import RunConfig
from samebits.core.timings import Timings
from samebits.core.trace_level import DEFAULT_TRACE, TraceEnded
from samebits.core.trial import Trial
from samebits.host.launch.runtime import choose_runtime
from samebits.host.probe.experiment import Experiments
from samebits.runner.trial.trial_runner import TrialRunner
from support.command import Project

_LOOPS = """
import keras, numpy as np, tensorflow as tf

with tf.Graph().as_default():
    tf.constant(1.0) + 1

one, other = (keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)]) for _ in range(2))
turns = [(one, keras.optimizers.SGD()), (other, keras.optimizers.Adam())]
for _ in range(100):
    for model, optimizer in turns:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(np.ones((2, 3))) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
"""
_AT_ONCE = """
import keras, numpy as np

model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse", steps_per_execution=4)
model.fit(np.ones((800, 3)), np.ones((800, 1)), batch_size=2, verbose=0)
"""
_FITS = """
import keras, numpy as np

for _ in range(3):
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 3)), np.ones((8, 1)), batch_size=2, verbose=0)
"""


@pytest.mark.parametrize(
    ("script", "state", "steps"), [(_LOOPS, "interrupted", 9), (_AT_ONCE, "interrupted", 12), (_FITS, "finished", 12)]
)
def test_steps_are_counted(project: Project, tmp_path: Path, script: str, state: str, steps: int) -> None:
    """In custom loops, with several steps per execution (which are never split), and over several calls of `fit`."""
    project.write(script)
    spec = RunConfig(script=project.script, runtime="venv")
    trials = Experiments(spec, choose_runtime(spec), tmp_path / "trials", DEFAULT_TRACE)
    _, record = trials.run("a trial", Trial(steps=9 if state == "interrupted" else 50))
    assert (record.outcome.state, record.timings.steps) == (state, steps), record.outcome
    assert record.timings.step is not None
    assert 0 < record.timings.step < 1


def test_models_that_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slow and a fast model, the time of a step is the mean of both, where a median would be one of them."""
    clock: Iterator[float] = itertools.accumulate(itertools.cycle([0.1, 0.5]))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    trial = TrialRunner(Trial(steps=43))
    count = trial.count
    assert count is not None
    for number in range(42):
        count(number % 2, 1)
    with pytest.raises(TraceEnded, match="ended after 43 steps, as asked"):
        count(0, 1)
    assert trial.add_timings(Timings()).to_dict() == {"steps": 43, "step": pytest.approx(0.3, abs=0.01)}


def test_without_a_trial_nothing_is_counted() -> None:
    nothing = TrialRunner(None)
    assert (nothing.count, nothing.nondeterministic_ops()) == (None, None)
    assert nothing.add_timings(Timings(script=1.0)) == Timings(script=1.0)
