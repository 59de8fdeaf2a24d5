"""What settings cost: each one is really dropped, and its slowdown is measured."""

import json
from pathlib import Path

import pytest

from samebits.core.determinism_profile import Profile
from samebits.host.probe.overhead import settings_of
from support.command import call

_SERIALISED = """
import time
import keras, numpy as np, tensorflow as tf

def slow(row):
    time.sleep(0.01)
    return row

data = tf.data.Dataset.from_tensor_slices(np.ones((300, 3), "float32"))
data = data.map(lambda row: tf.ensure_shape(tf.numpy_function(slow, [row], tf.float32), [3]), num_parallel_calls=8)
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(data.map(lambda row: (row, row[:1])).batch(10), epochs=2, verbose=0)
"""


@pytest.mark.cold
@pytest.mark.usefixtures("locked")
def test_a_setting_that_costs(tmp_path: Path) -> None:
    """Op determinism serializes the calls of a Python function in a pipeline; only that makes this script slow."""
    (tmp_path / "train.py").write_text(_SERIALISED)
    words = ("--cost", "--steps", "20", "--rounds", "1", "--runtime", "venv")
    done = call("check", "train.py", *words, "--format", "json", folder=tmp_path)
    assert done.status == 0, done.err
    cost = json.loads(done.out)["cost"]
    kept = {row["setting"]: row["kept"][0] for row in cost["settings"]}
    assert list(kept) == [name for name, _ in settings_of(Profile())]
    assert kept.pop("op determinism") < 0.6  # about 0.2 on an idle machine: eight calls run in parallel without it
    assert kept.pop("all of them") < 0.6
    assert all(value > 0.6 for value in kept.values()), kept
    assert cost["seconds"][0] > 0.08  # ten calls of 0.01 s, one by one
    assert not list(tmp_path.glob("runs*"))


@pytest.mark.slow  # the README's test shows the table as well
@pytest.mark.usefixtures("locked")
def test_as_a_table(tmp_path: Path) -> None:
    """With bars; `--run` and `--cost` can be combined."""
    (tmp_path / "train.py").write_text(_SERIALISED)
    words = ("--run", "--cost", "--steps", "10", "--rounds", "1", "--runtime", "venv")
    done = call("check", "train.py", *words, folder=tmp_path)
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "0 found, 0 ignored, in 1 file"
    assert lines[1].startswith("two short runs are identical with a different hash seed, ")
    assert lines[1].endswith(": 10 steps; later steps were not run")
    assert lines[2].split()[0] == "setting"
    assert [line.partition("  ")[0] for line in lines[3:-1]] == [name for name, _ in settings_of(Profile())]
    assert all("█" in line for line in lines[3:-1])
    assert lines[-1].startswith("with all settings a step takes ")


@pytest.mark.usefixtures("locked")
def test_too_few_steps(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('no training')\n")
    done = call("check", "train.py", "--cost", "--runtime", "venv", folder=tmp_path)
    assert done.status == 2
    assert done.err.splitlines()[-1] == ("samebits: the script made too few steps to measure: 0; train for 10 or more")


@pytest.mark.usefixtures("locked")
def test_a_training_that_fails(tmp_path: Path) -> None:
    """The steps before the failure are not measured."""
    (tmp_path / "train.py").write_text(f"{_SERIALISED}raise ValueError('late')\n")
    done = call("check", "train.py", "--cost", "--steps", "90", "--runtime", "venv", folder=tmp_path)
    assert done.status == 2
    assert done.err.splitlines()[-1] == (
        "samebits: round 1 of 3, with all settings: the script failed: ValueError: late; see `samebits check --run`"
    )


def test_settings_of_a_profile() -> None:
    native, portable, gpu = (
        [name for name, _ in settings_of(profile)]
        for profile in (Profile(), Profile(name="portable", threads=1), Profile(device="gpu"))
    )
    always = [
        "op determinism",
        "order of sums",
        "TensorFlow's threads",
        "OPENBLAS_NUM_THREADS",
        "TF_ENABLE_ONEDNN_OPTS",
    ]
    of_portable = ["ONEDNN_MAX_CPU_ISA", "NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE", "graph rewrites"]
    assert native == [*always, "all of them"]
    assert portable == [*always, *of_portable, "exact operations", "cache sizes", "all of them"]
    assert gpu == [*always, "TF32 off", "CUBLAS_WORKSPACE_CONFIG", "XLA_FLAGS", "all of them"]
    assert set(dict(settings_of(Profile()))["all of them"]) >= {"seeds", "op determinism", "TF_NUM_INTEROP_THREADS"}
