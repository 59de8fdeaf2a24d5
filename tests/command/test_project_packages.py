"""Trainings with the packages of `examples/packages`: matplotlib, pandas and scikit-learn."""

import shutil

import pytest

from samebits.core.record import read_record
from support.command import ROOT, Project, call

pytestmark = [pytest.mark.cold, pytest.mark.slow, pytest.mark.usefixtures("locked")]

_SCRIPT = """
import matplotlib, matplotlib.pyplot as plt, pandas as pd, sklearn, keras, numpy as np
line, = plt.plot([0, 1], [0, 1])
plt.savefig("before.png")
class Each(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        {step}
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(np.ones((8, 3)), np.ones(8), epochs=2, verbose=0, callbacks=[Each()])
"""
_FIGURE = "an open figure of pyplot (close it in the epoch that draws it) changed during training"


@pytest.fixture
def packaged(project: Project) -> Project:
    """A project with the example's lock."""
    for name in ("requirements.in", "requirements.lock"):
        shutil.copy(ROOT / "examples" / "packages" / name, project.folder)
    return project


@pytest.mark.timeout(1800)
def test_what_a_callback_leaves_in_a_library(packaged: Project) -> None:
    """None of it is captured, so the run is not resumable, by name; figures that an epoch closes change nothing."""
    reasons = {
        "pass": "",
        'plt.savefig("again.png")': "",
        'plt.figure(); plt.plot([epoch]); plt.savefig("epoch.png"); plt.close()': "",
        'plt.plot(epoch, logs["loss"], "bo")': _FIGURE,
        "plt.gca().lines[0].set_data([0, 1], [epoch, 1])": _FIGURE,
        "plt.title(epoch)": _FIGURE,
        'matplotlib.rcParams["figure.dpi"] = 200': "a setting of matplotlib changed during training",
        'pd.set_option("display.precision", 3)': "a setting of pandas changed during training",
        "sklearn.set_config(assume_finite=True)": "a setting of sklearn changed during training",
    }
    found = {}
    for step in reasons:
        packaged.write(_SCRIPT.format(step=step))
        done = packaged.train()
        assert done.status == 0, done.err
        resumable = read_record(packaged.folder / done.run / "record.json").resumable
        assert resumable is not None
        found[step] = "; ".join(resumable.reasons).partition(";")[0]
    assert found == reasons


@pytest.mark.timeout(1800)
def test_short_runs_with_pandas(packaged: Project) -> None:
    """The clock is changed for them: extension modules of pandas build on the class `datetime` itself."""
    packaged.write(_SCRIPT.format(step='pd.Timestamp.now(); pd.Series([1], index=pd.date_range("2026", periods=1))'))
    done = call("check", "train.py", "--run", "--runtime", "venv", "--data", "data", folder=packaged.folder)
    assert done.status == 0, done.out + done.err
    assert done.out.splitlines()[-1].startswith("two short runs are identical with a different hash seed")
