"""An array lies in memory as it did, when it comes back from a checkpoint: sums and files depend on it."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samebits.core.digest import Digest
from samebits.runner.checkpoint.state.array_layout import restored_array, strides_of
from samebits.runner.checkpoint.state.capture_arrays import ArrayCapture
from samebits.runner.checkpoint.state.encoding import Content, PathMap
from samebits.runner.checkpoint.state.restore import StateRestorer

DATA = np.random.default_rng(1).normal(size=(31, 7, 17)).astype("float32")
"""As many elements as are not stored in the JSON itself."""

LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "row-major": lambda data: data,
    "Fortran order": lambda data: data.T,
    "other axes": lambda data: data.transpose(1, 0, 2),
    "a slice": lambda data: data[:, 1:, ::2],
    "backwards": lambda data: data[::-1, :, 3],
    "one axis of one": lambda data: data[:, 2:3, :].T,
    "repeated": lambda data: np.broadcast_to(data[0, 0], (5, 17)),
    "windows": lambda data: np.lib.stride_tricks.sliding_window_view(data[0, 0], 4),
    "none": lambda data: data[:0].T,
    "no axes": lambda data: data[1, 1, 1:2].reshape(()),
    "big-endian": lambda data: data.astype(">f4").T,
    "small": lambda data: data[:2, :3, 0].T,
}


def restored(saved: Any, live: Any) -> Any:
    """The array as a checkpoint holds it, restored where the script has `live`."""
    capture = ArrayCapture(lambda value, _: value, {}, {}, initial=False)
    encoded = json.loads(json.dumps(capture._numpy_array(saved, "an array")))
    contents = {digest: bytes(content) for digest, content in capture.contents.items()}

    def read(digest: Digest) -> bytes:
        return contents[str(digest)]

    return StateRestorer(Content(read), PathMap({"run": Path("/runs/a")})).value({**encoded, "#": 0}, live, "an array")


def npy(array: Any) -> bytes:
    """The bytes of its file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("kept", ["nothing", "the same", "another content", "another layout"])
def test_an_array_comes_back_in_its_layout(name: str, kept: str) -> None:
    saved = LAYOUTS[name](DATA)
    other = LAYOUTS[name](DATA + 1)
    lives = {"nothing": None, "the same": LAYOUTS[name](DATA.copy()), "another content": other}
    live = lives.get(kept, saved.copy(order="C"))
    found = restored(saved, live)
    assert (found.dtype, found.shape, strides_of(found)) == (saved.dtype, saved.shape, strides_of(saved))
    assert npy(found) == npy(saved)
    assert found.sum().tobytes() == saved.sum().tobytes()
    if kept == "the same" or (kept == "another content" and other.flags.writeable):
        assert found is live


@pytest.mark.parametrize("live_writeable", [True, False])
@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("equal", [True, False])
def test_whether_an_array_may_be_written_to(*, equal: bool, writeable: bool, live_writeable: bool) -> None:
    live, saved = np.zeros(3), np.full(3, 0.0 if equal else 1.0)
    live.flags.writeable, saved.flags.writeable = live_writeable, writeable
    found = restored_array(saved, live)
    assert found.flags.writeable == writeable
    assert found.tolist() == saved.tolist()
    # What the script made read-only is not written to.
    assert (found is live) == (equal or live_writeable)
    assert equal or live_writeable or live.tolist() == [0, 0, 0]


def test_what_nobody_can_write_to_is_not_written_to() -> None:
    live = np.frombuffer(bytes(16))
    found = restored_array(np.zeros(2), live)
    assert found is not live
    assert (found.flags.writeable, live.flags.writeable) == (True, False)
