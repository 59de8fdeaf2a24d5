"""The order of `fit(shuffle=True)`: a repeated order is reported, and `--shuffle per-epoch` changes it each epoch."""

import json

import pytest

from samebits.core.record import read_record
from support.command import Done, Project

pytestmark = pytest.mark.usefixtures("locked")

SCRIPT = """
import json, sys
import keras, numpy as np, tensorflow as tf

class Recording(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
    def call(self, x):
        tf.py_function(lambda values: seen.append(int(values[0, 0])), [x], [])
        return self.dense(x)

orders = []
seen = []
class Epochs(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        orders.append(list(seen)); seen.clear()

x = np.arange(16, dtype="float32").reshape(16, 1)
model = Recording()
model.compile("sgd", "mse", run_eagerly=True)
for _ in range(2):
    model.fit(x, x, batch_size=1, epochs=3, verbose=0, shuffle={shuffle}, callbacks=[Epochs()], {more})
print("orders", json.dumps(orders))
"""


def orders(project: Project, *options: str, shuffle: str = "True", more: str = "") -> tuple[list[list[int]], Done]:
    """The sample order in each of the six epochs of two fits."""
    project.write(SCRIPT.replace("{shuffle}", shuffle).replace("{more}", more))
    done = project.train(*options)
    assert done.status == 0, done.err
    found: list[list[int]] = json.loads(done.line("orders"))
    assert all(sorted(order) == list(range(16)) for order in found), found
    return found, done


def different(found: list[list[int]]) -> int:
    return len({tuple(order) for order in found})


def test_kerass_own_order_repeats_and_is_reported_once(project: Project) -> None:
    found, done = orders(project)
    assert different(found) == 1
    assert found[0] != sorted(found[0])
    assert done.err.count("samebits: fit(shuffle=True) uses the same sample order in every epoch") == 1


def test_an_order_for_each_epoch(project: Project) -> None:
    found, done = orders(project, "--shuffle", "per-epoch")
    assert different(found) == 6
    assert "same sample order" not in done.err
    again, _ = orders(project, "--shuffle", "per-epoch")
    assert again == found
    other, _ = orders(project, "--shuffle", "per-epoch", "--seed", "1")
    assert different(found + other) == 12
    later, _ = orders(project, "--shuffle", "per-epoch", more="initial_epoch=1")
    assert later[:2] == found[1:3]


def test_nothing_to_shuffle(project: Project) -> None:
    found, done = orders(project, "--shuffle", "per-epoch", shuffle="False")
    assert found == [list(range(16))] * 6
    found, done = orders(project, shuffle="False")
    assert found == [list(range(16))] * 6
    assert "same sample order" not in done.err


def test_it_is_part_of_the_recipe(project: Project) -> None:
    (project.folder / "samebits.toml").write_text('shuffle = "per-epoch"\n')
    records = [
        read_record(project.folder / project.train(*options).run / "record.json")
        for options in ([], ["--shuffle", "keras"])
    ]
    assert [record.recipe.shuffle for record in records] == ["per-epoch", "keras"]
    assert records[0].recipe.digest != records[1].recipe.digest
    assert records[0].recipe.to_dict()["shuffle"] == "per-epoch"
    assert "shuffle" not in records[1].recipe.to_dict()


def test_no_such_order(project: Project) -> None:
    done = project.train("--shuffle", "random")
    assert (done.status, done.complaint) == (2, "shuffle must be one of keras, per-epoch, not 'random'")


BINCOUNT = """
import keras, numpy as np, tensorflow as tf
values = np.random.randint(0, 20, 100_000)
weights = np.random.random(100_000).astype("float32")
{call}
np.save(__import__("os").environ["SAMEBITS_OUTPUT"] + "/sums.npy", np.asarray(sums))
"""
CALLS = {
    "TensorFlow": "sums = tf.math.bincount(values, weights)",
    "Keras": "sums = keras.ops.bincount(values, weights)",
    "graph": "sums = tf.function(lambda v, w: tf.math.bincount(v, w))(values, weights)",
    "swallowed": "try:\n    sums = tf.math.bincount(values, weights)\nexcept Exception:\n    sums = 0",
}


@pytest.mark.parametrize("how", CALLS)
def test_weighted_bincount_is_refused_with_several_threads(project: Project, how: str) -> None:
    project.write(BINCOUNT.format(call=CALLS[how]))
    done = project.train()
    assert done.status == 2
    assert (
        "samebits: bincount with weights sums in a different order each time with 2 threads; use --threads 1"
        in done.err
    )
    assert project.only_run().outcome.state == "failed"


def test_weighted_bincount_repeats_with_one_thread(project: Project) -> None:
    project.write(BINCOUNT.format(call=CALLS["TensorFlow"]))
    found = {project.train("--threads", "1").line("result") for _ in range(3)}
    assert len(found) == 1


@pytest.mark.parametrize(
    "call", ["sums = tf.math.bincount(values)", "sums = tf.math.unsorted_segment_sum(weights, values, 20)"]
)
def test_the_alternatives_repeat_with_eight_threads(project: Project, call: str) -> None:
    project.write(BINCOUNT.format(call=call))
    found = {project.train("--threads", "8").line("result") for _ in range(3)}
    assert len(found) == 1
