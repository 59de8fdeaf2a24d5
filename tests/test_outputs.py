"""Model files count by their tensors; run in the locked packages, where h5py and Keras are."""

import subprocess
from pathlib import Path

from samebits.host.source import staged_recipe
from samebits.host.venv import locked_python

PROGRAM = """
import pathlib, sys, time
import keras, numpy as np
from samebits.container.outputs import describe_outputs
folder = pathlib.Path(sys.argv[1])
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)], name="m")
model.compile("adam", "mse")
model.train_on_batch(np.ones((1, 3)), np.ones((1, 2)))
def digests():
    for name in ("a.keras", "a.weights.h5", "a.h5"):
        (model.save_weights if "weights" in name else model.save)(folder / name)
    return [item["digest"] for item in describe_outputs(folder, ()) if item["by"] == "tensors"]
digests()  # saving in the old format changes what a model knows of itself; once is enough
first = digests()
raw = (folder / "a.keras").read_bytes()
time.sleep(2.1)  # zip archives keep times by two seconds
same = digests()
assert (folder / "a.keras").read_bytes() != raw, "the bytes must differ, else this proves nothing"
w = model.get_weights(); w[0][0, 0] = np.nextafter(w[0][0, 0], np.float32(9)); model.set_weights(w)
other = digests()
(folder / "a.keras").write_bytes(b"no archive")
broken = [item for item in describe_outputs(folder, ("*.h5",))]
print(len(first), same == first, [a == b for a, b in zip(first, other)], [item["by"] for item in broken])
"""


def test_equal_models_have_equal_digests(tmp_path: Path) -> None:
    done = subprocess.run(
        [locked_python(), "-c", PROGRAM, tmp_path],
        env={"PYTHONPATH": str(staged_recipe() / "source"), "TF_CPP_MIN_LOG_LEVEL": "2", "HOME": str(tmp_path.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "3 True [False, False, False] ['ignored', 'bytes', 'ignored']\n", done.stderr
