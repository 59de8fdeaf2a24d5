"""The lanes themselves: what a test that asks for nothing finds, and what is said while tests run."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from samebits.core.errors import StorageError
from samebits.host.launch.venv import locked_python
from support import lanes
from support.progress import Progress


def test_who_asks_for_nothing_finds_nothing() -> None:
    """Neither the locked environment, which is not made either, nor an engine."""
    with pytest.raises(StorageError, match="closed-cache"):
        locked_python()
    assert not Path(os.environ["DOCKER_HOST"].removeprefix("unix://")).exists()


def _item(*marks: str) -> Any:
    return SimpleNamespace(get_closest_marker=lambda name: name in marks or None)


def test_what_each_lane_leaves_out() -> None:
    plain, locked, slow, gpu = _item(), _item("locked"), _item("locked", "slow"), _item("gpu")
    out = {lane: [lanes.left_out(item, lane, "") for item in (plain, locked, slow, gpu)] for lane in lanes.LANES}
    assert out["fast"] == [False, True, True, True]
    assert out["test"] == [False, False, True, True]
    assert out["all"] == [False, False, False, True]
    assert not lanes.left_out(gpu, "test", "gpu")


def test_only_some_of_a_long_tail() -> None:
    first, second = lanes.long_tail(["a", "b"], keep=["a"])
    assert first == "a"
    assert (second.values, [mark.name for mark in second.marks]) == (("b",), ["slow"])


def test_interrupts_work_in_the_background() -> None:
    """What is started with SIGINT ignored, as a shell does it, hands it on to its children."""
    code = (
        "import os, signal, subprocess, sys; from support.lanes import restore_interrupts; restore_interrupts();"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(600)'],"
        " stdout=subprocess.PIPE); child.stdout.readline(); child.send_signal(signal.SIGINT); print(child.wait())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(lanes.__file__).rpartition("/support/")[0]},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == -signal.SIGINT


def test_what_is_said_while_tests_run() -> None:
    config: Any = SimpleNamespace(option=SimpleNamespace(numprocesses=2))
    progress = Progress(config, seconds={"a::b": 100.0, "a::c": 20.0})
    progress.pytest_xdist_node_collection_finished(["a::a", "a::b", "a::c"])
    progress.pytest_runtest_logstart("a::c")
    report: Any = SimpleNamespace(nodeid="a::a", when="teardown")
    progress.pytest_runtest_logreport(report)
    line = progress._line(progress.running["a::c"] + 7)
    assert line.startswith("test: 1 of 3 done in 0:0")
    assert line.endswith(", about 1:00 left; running a::c (7 s)")
