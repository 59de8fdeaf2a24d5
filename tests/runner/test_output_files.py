"""Model files are digested by their tensors. Needs the locked packages, for h5py and Keras."""

import os
import subprocess
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.host.image.build_context import staged_context
from samebits.host.launch.venv import locked_python
from samebits.runner.digests.output_files import describe_outputs

PROGRAM = r"""
import pathlib, sys, time, zipfile
import keras, numpy as np
from samebits.runner.digests.output_files import describe_outputs
from samebits.core.digest import Digest
from samebits.core.weights_file import stored_content
folder = pathlib.Path(sys.argv[1])
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)], name="m")
model.compile("adam", "mse")
model.train_on_batch(np.ones((1, 3)), np.ones((1, 2)))
def digests():
    for name in ("a.keras", "a.weights.h5", "a.h5"):
        (model.save_weights if "weights" in name else model.save)(folder / name)
    return [item.digest for item in describe_outputs(folder, ())[0] if item.by == "tensors"]
digests()  # the first save in the old format changes the model's own state
first = digests()
raw = (folder / "a.keras").read_bytes()
time.sleep(2.1)  # zip archives store times in steps of two seconds
same = digests()
assert (folder / "a.keras").read_bytes() != raw, "the bytes must differ, or the test proves nothing"
w = model.get_weights(); w[0][0, 0] = np.nextafter(w[0][0, 0], np.float32(9)); model.set_weights(w)
other = digests()
found = [item for item in describe_outputs(folder, ())[0] if item.by == "tensors"]
assert [str(stored_content(folder / item.path, folder)) for item in found] == [item.digest for item in found]
print(len(first), same == first, [a == b for a, b in zip(first, other)])
whole = (folder / "a.keras").read_bytes()
with zipfile.ZipFile(folder / "packed.keras", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("config.json", b"{}" * 500)
    entry = archive.getinfo("config.json")
packed = bytearray((folder / "packed.keras").read_bytes())
start = entry.header_offset + 30 + len(entry.filename)
packed[start:start + 4] = b"\xff" * 4
(folder / "packed.keras").write_bytes(packed)
hdf = bytearray((folder / "a.h5").read_bytes())
hdf[512:] = b"\xff" * len(hdf[512:])
(folder / "broken.h5").write_bytes(hdf)
(folder / "cut.h5").write_bytes((folder / "a.h5").read_bytes()[:3000])
(folder / "empty.hdf5").touch()
(folder / "text.keras").write_bytes(b"no archive")
(folder / "short.keras").write_bytes(whole[:-200])
for item in describe_outputs(folder, ("a.*",))[0]:
    print(item.path, item.by, item.digest == str(Digest.of_file(folder / item.path)))
with zipfile.ZipFile(folder / "packed.keras") as archive:
    print(archive.namelist())
    try:
        archive.read("config.json")
    except Exception as error:
        print(type(error).__module__)
"""


@pytest.mark.usefixtures("locked")
def test_equal_models_have_equal_digests(tmp_path: Path) -> None:
    done = subprocess.run(
        [locked_python(), "-c", PROGRAM, tmp_path],
        env={"PYTHONPATH": str(staged_context() / "source"), "TF_CPP_MIN_LOG_LEVEL": "2", "HOME": str(tmp_path.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "3 True [False, False, False]",
        *(f"{name} bytes True" for name in ("broken.h5", "cut.h5", "empty.hdf5")),
        *(f"{name}.keras bytes True" for name in ("packed", "short", "text")),
        "['config.json']",  # the archive is intact, its member is not
        "zlib",
    ], done.stderr


def _described(folder: Path, *ignore: str) -> list[tuple[str, str]]:
    return [(item.path, item.by) for item in describe_outputs(folder, ignore)[0]]


def test_links_and_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "again").symlink_to("..")
    (tmp_path / "B").write_text("x")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_text("x")
    everything = [
        ("B", "bytes"),
        ("\\xff", "bytes"),
        ("b/again", "link"),
        ("b/x.txt", "bytes"),
        ("link", "link"),
    ]
    assert _described(tmp_path) == everything
    assert _described(tmp_path, "b/*", "lin?") == [item for item in everything if item[0] in ("B", "\\xff")]
    assert _described(tmp_path, "*") == []
    found = {item.path: item.digest for item in describe_outputs(tmp_path, ())[0]}
    assert found["link"] == str(Digest.of_bytes(b"b"))
    assert found["b/again"] == str(Digest.of_bytes(b"."))
    assert found["B"] == found["b/x.txt"] == str(Digest.of_bytes(b"x"))
