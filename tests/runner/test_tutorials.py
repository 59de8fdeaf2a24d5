"""What pages on reproducible Keras print runs as it is printed."""

import pytest

from support.command import Project

SCRIPT = """
import os
os.environ["PYTHONHASHSEED"] = "42"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["TF_DETERMINISTIC_OPS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
import random
import numpy as np, tensorflow as tf, keras
random.seed(42)
np.random.seed(42)
tf.random.set_seed(42)
keras.utils.set_random_seed(42)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.experimental.enable_op_determinism()
tf.config.run_functions_eagerly(True)
x = np.random.default_rng(1).normal(size=(64, 4)).astype("float32")
model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
model.compile("sgd", "mse")
model.fit(x, x[:, :3], verbose=0)
model.save("model.h5")
"""


@pytest.mark.usefixtures("locked")
def test_a_script_that_pins_everything_itself(project: Project) -> None:
    project.write(SCRIPT)
    done = project.train()
    assert done.status == 0, done.err
    assert "train.py:3 sets PYTHONHASHSEED=42, which has no effect on this Python: it started with 0\n" in done.err
    record = project.only_run()
    made = [(item.line, item.name, item.value) for item in record.environment.script_settings or ()]
    assert made == [
        (3, "PYTHONHASHSEED", "42"),
        (13, "TF_NUM_INTEROP_THREADS", "1"),
        (14, "TF_NUM_INTRAOP_THREADS", "1"),
    ]
    assert record.result is not None
    assert [item.path for item in record.result.outputs] == ["model.h5"]
    assert project.train().line("result") == done.line("result")


EXPORTS = """
import os
import keras
import numpy as np

x = np.random.default_rng(1).normal(size=(64, 4)).astype("float32")
# TensorFlow would write so many variables in another order each time.
hidden = [keras.layers.Dense(8, activation="tanh") for _ in range(8)]
model = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(3)])
model.compile("sgd", "mse")
model.fit(x, x[:, :3], verbose=0)
path = os.path.join(os.environ.get("SAMEBITS_OUTPUT", "."), "exported")
model.export(path, verbose=False)
layer = keras.layers.TFSMLayer(path, call_endpoint="serve")
assert np.allclose(layer(x), model(x))
outer = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(1)])
outer.compile("sgd", "mse")
outer.fit(x, x[:, :1], verbose=0)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("locked")
def test_an_exported_model_repeats(project: Project) -> None:
    """All of its files but a random number; and it can be used as a layer."""
    project.write(EXPORTS)
    done = project.train()
    assert done.status == 0, done.err
    record = project.only_run()
    assert record.result is not None
    assert "exported/saved_model.pb" in {item.path for item in record.result.outputs}
    assert project.train().line("result") == done.line("result")
