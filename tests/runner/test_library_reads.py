"""Files that TensorFlow and HDF5 read in C, in a virtual environment: named where their names are given in Python."""

from pathlib import Path

import pytest

from support.command import Project

pytestmark = pytest.mark.usefixtures("locked")

_MAKE = """
import os, pathlib, h5py, numpy as np, tensorflow as tf
outside, data = pathlib.Path("OUTSIDE"), pathlib.Path(os.environ["SAMEBITS_DATA"])
os.symlink(outside / "a.txt", "link.txt")
"""
_READS = """tf.io.read_file("OUTSIDE/a.txt")
h5py.File(outside / "a.h5").close()
h5py.File("OUTSIDE/a.h5", mode="r").close()
list(tf.data.Dataset.from_tensor_slices(["OUTSIDE/a.txt"]).map(tf.io.read_file))
list(tf.data.Dataset.from_tensor_slices((np.array(["OUTSIDE/a.txt"]), [1])))
list(tf.data.Dataset.from_tensor_slices({"path": tf.constant(["OUTSIDE/a.txt"])}))
list(tf.data.Dataset.list_files("OUTSIDE/*.txt"))
list(tf.data.TextLineDataset("OUTSIDE/a.txt"))
list(tf.data.TFRecordDataset(["OUTSIDE/empty.tfrecord"]))
tf.io.gfile.GFile("OUTSIDE/a.txt").read()
tf.io.gfile.listdir("OUTSIDE")
tf.io.gfile.glob("OUTSIDE/*.txt")
list(tf.data.Dataset.range(1).map(lambda _: tf.io.read_file("OUTSIDE/a.txt")))
tf.train.load_checkpoint("OUTSIDE/weights")
tf.io.read_file("link.txt")
"""
_OWN = """
tf.io.read_file(os.fspath(data / "d.txt"))
with h5py.File("OUTSIDE/own.h5", "w") as file:
    file["x"] = [1]
h5py.File("own.h5", "w").close()
h5py.File("own.h5").close()
list(tf.data.Dataset.from_tensor_slices(["a review", "of a film/of 1999"]))
list(tf.data.Dataset.from_tensor_slices(np.zeros((4, 2))))
os.unlink("link.txt")
"""


def test_each_is_named_with_its_place(project: Project, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("1")
    (outside / "empty.tfrecord").touch()
    (project.data / "d.txt").write_text("2")
    made = "with h5py.File('a.h5', 'w') as file: file['x'] = [1]\n"
    made += "tf.train.Checkpoint(x=tf.Variable(1.0)).write('weights')\n"
    # Made by a program of its own: what a script writes is its own to read.
    make = _MAKE + "import subprocess, sys\nsubprocess.run([sys.executable, '-c', '''import h5py, tensorflow as tf\n"
    make += f"{made}'''], cwd=outside, check=True)\n"
    text = (make + _READS + _OWN).replace("OUTSIDE", str(outside))
    project.write(text)
    done = project.train()
    assert done.status == 0, done.err
    first = text[: text.index("tf.io.read_file")].count("\n") + 1
    found = {use.line: (use.kind, Path(use.what).name) for use in project.only_run().environment.unpinned or ()}
    files = ["a.txt", "a.h5", "a.h5", *["a.txt"] * 3, None, "a.txt", "empty.tfrecord", "a.txt", None, None, "a.txt"]
    files += ["weights.index", "link.txt"]
    wanted = [("folder", "outside") if name is None else ("file", name) for name in files]
    assert found == dict(enumerate(wanted, first))


def test_a_strict_run_ends_there(project: Project, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1")
    project.write(f"import tensorflow as tf\ntf.io.read_file('{tmp_path}/a.txt')\nopen('done.txt', 'w')\n")
    done = project.train("--strict")
    assert done.status == 2
    assert f"{tmp_path}/a.txt, which no recipe names, and the run is strict" in done.err
