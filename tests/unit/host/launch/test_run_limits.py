"""A run that takes longer, or fills more of the disk, than it may is stopped as SIGTERM would stop it."""

import os
import select
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from samebits.core.errors import InputError, Terminated
from samebits.host.launch import run_limits
from samebits.host.launch.run_limits import HOURS, LimitError, RunLimits, disk_use, limited


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own configuration, which is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(run_limits, "_POLL_SECONDS", 0.01)
    (tmp_path / "config" / "samebits").mkdir(parents=True)
    return tmp_path / "config" / "samebits" / "config.toml"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run" / "outputs").mkdir(parents=True)
    return tmp_path / "run"


def test_the_usual_limits(own: Path) -> None:
    assert RunLimits().chosen() == RunLimits(hours=HOURS, disk=None)
    own.write_text('max-hours = 2\nmax-disk = "1g"\n')
    assert RunLimits().chosen() == RunLimits(hours=2.0, disk=1 << 30)
    assert RunLimits.parse("0.5", "3m").chosen() == RunLimits(hours=0.5, disk=3 << 20)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e300", "week", ""])
def test_hours_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="--max-hours is a number of hours above 0"):
        RunLimits.parse(text, None)


@pytest.mark.parametrize("line", ["max-hours = 0", "max-hours = nan", "max-hours = '2'", "max-disk = 3", "cpus = -1"])
def test_settings_that_are_none(own: Path, line: str) -> None:
    own.write_text(f"{line}\n")
    with pytest.raises(InputError, match=line.partition(" ")[0]):
        RunLimits().chosen()


def _until_stopped(run: Path, limits: RunLimits, first: Callable[[], object] = lambda: None) -> None:
    """Do something within limits, then block as waiting for a process does."""
    with limited(run, limits):
        first()
        _block()


def _block() -> None:
    reading, writing = os.pipe()
    try:
        select.select([reading], [], [], 10)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.usefixtures("own")
def test_too_long(run: Path) -> None:
    with pytest.raises(LimitError, match=r"stopped after 1e-06 hours, .* \(--max-hours\)"):
        _until_stopped(run, RunLimits(hours=1e-6))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.usefixtures("own")
def test_a_folder_that_is_removed_meanwhile(run: Path) -> None:
    """The other limits hold."""
    with pytest.raises(LimitError, match=r"stopped after 0\.0001 hours"):
        _until_stopped(run, RunLimits(hours=1e-4), lambda: shutil.rmtree(run))


@pytest.mark.usefixtures("own")
def test_too_much(run: Path) -> None:
    (run / "before").write_bytes(b"x" * (2 << 20))
    large = run / "outputs" / "large"
    with pytest.raises(LimitError, match=r"it wrote [1-3].\d MiB to the disk, more than the 1.0 MiB .* \(--max-disk\)"):
        _until_stopped(run, RunLimits(disk=1 << 20), lambda: large.write_bytes(b"x" * (3 << 20)))


@pytest.mark.usefixtures("own")
def test_a_disk_that_something_without_a_name_fills(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter([100, 100, 50, 5, 4, 4, 4])
    monkeypatch.setattr(run_limits, "_free_bytes", lambda _: next(left) << 30)
    with pytest.raises(LimitError, match=r"only 4.0 GiB are left"):
        _until_stopped(run, RunLimits())


@pytest.mark.usefixtures("own")
def test_what_keeps_within(run: Path) -> None:
    with limited(run, RunLimits(hours=1, disk=1 << 30)):
        (run / "outputs" / "small").write_bytes(b"x")
        time.sleep(0.05)
    assert not any("_Watch" in repr(thread) for thread in threading.enumerate())


@pytest.mark.usefixtures("own")
def test_a_stop_from_outside_is_none_of_ours(run: Path) -> None:
    with pytest.raises(Terminated):
        _until_stopped(run, RunLimits(), lambda: os.kill(os.getpid(), signal.SIGTERM))


def test_what_takes_room(run: Path) -> None:
    with (run / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (run / "outputs" / "real").write_bytes(b"x" * 100_000)
    (run / "outputs" / "link").symlink_to("/usr")
    closed = run / "closed"
    closed.mkdir(mode=0)
    assert 100_000 <= disk_use(run) < 200_000
    closed.chmod(0o700)
