"""What changed belongs to the result, however it was trained."""

import pytest

from support.command import SCRIPTS, Project, call, load_json
from support.sessions import run_sessions

WAYS = (
    *("assign_sub", "inner_assign_sub", "discarded", "closure", "listed", "cloned", "lazily", "in_a_thread"),
    *("in_a_function", "set_weights", "load_weights", "bare_layer", "dictionary", "keras_variables", "module"),
    *("raw_operation", "compat_optimizer", "stateless", "two_and_a_bare_one", "after_clearing"),
    *("discarded_before_clearing", "swapped"),
)


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize(
    "ways",
    [WAYS[::4], *(pytest.param(WAYS[first::4], marks=pytest.mark.slow) for first in (1, 2, 3))],
    ids=["0", "1", "2", "3"],
)
def test_what_is_trained_otherwise_is_in_the_result(project: Project, ways: tuple[str, ...]) -> None:
    project.write((SCRIPTS / "coverage" / "trained_otherwise.py").read_text())
    rates = ("0.1", "0.1", "0.2")
    done, err = run_sessions(project, *({"arguments": (way, rate)} for way in ways for rate in rates))
    wrong = []
    for number, way in enumerate(ways):
        one, same, other = (item.record for item in done[3 * number : 3 * number + 3])
        if one.result is None or [item.path for item in one.result.outputs] != ["done.txt"]:
            wrong.append(f"{way} failed")
        elif one.result_digest != same.result_digest or one.result_digest == other.result_digest:
            wrong.append(way)
    assert wrong == [], err
    assert [item.left for item in done if item.left] == []


UNSEEN = """
import os, gc
import keras, numpy as np
def predict():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    return model.predict(np.ones((1, 3)), verbose=0)
predict()
open(os.path.join(os.environ["SAMEBITS_OUTPUT"], "done.txt"), "w").write("done")
"""


def test_a_model_that_nobody_saw_makes_equal_files_incomparable(project: Project) -> None:
    project.write(UNSEEN)
    assert project.train().status == 0
    done = call("verify", "last", folder=project.folder)
    assert (done.status, done.out.splitlines()[-1]) == (3, "not comparable")
    assert "the results cover files only, and the script discarded Keras layers" in done.out
    # The same model, held until the end, is covered, also though it was never trained.
    project.write(UNSEEN.replace("    model =", "    global model\n    model ="))
    assert project.train().status == 0
    done = call("verify", "last", "--json", folder=project.folder)
    assert (done.status, load_json(done.out)["covers"]) == (0, "1 model, 1 file"), done.out


def test_a_model_that_keras_cannot_save_is_named(project: Project) -> None:
    project.write(
        "import keras, numpy as np\n"
        "class Mine(keras.Sequential):\n"
        "    def save(self, *a, **k): raise TypeError('no save')\n"
        "    def save_weights(self, *a, **k): raise TypeError('no weights')\n"
        "model = Mine([keras.layers.Input((3,)), keras.layers.Dense(1)], name='mine')\n"
        "model.compile('sgd', 'mse')\nmodel.fit(np.ones((4, 3)), np.ones(4), verbose=0)\n"
    )
    done = project.train()
    assert done.status == 0, done.err
    assert "a model could not be saved, the result has its digests only: mine: TypeError: no weights" in done.err
    coverage = project.only_run().coverage
    assert coverage is not None
    assert coverage.unsaved == ("mine: TypeError: no weights",)
