"""What a container may use, what it leaves behind, and whose the cache is."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import InputError, StorageError
from samebits.core.run_dir import claim
from samebits.core.run_files import read_plain
from samebits.host.cache_dir import cache_folder
from samebits.host.container_limits import limit_options
from samebits.host.launch import tidy
from samebits.host.launch.tidy import files_that_hold, take_rights


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own configuration, which is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "samebits").mkdir()
    return tmp_path / "samebits" / "config.toml"


def test_the_usual_limits(own: Path) -> None:
    assert not own.exists()
    assert limit_options(1000) == {
        "pids_limit": 4096,
        "tmpfs": {"/tmp": "mode=1777,size=450"},
        "mem_limit": 900,
        "memswap_limit": 900,
    }
    for unknown in (None, 0, "much"):
        assert limit_options(unknown) == {"pids_limit": 4096, "tmpfs": {"/tmp": "mode=1777"}}


def test_the_users_own_limits(own: Path) -> None:
    own.write_text('memory = "8g"\npids = 9\ntmp-size = "64M"\ncpus = 1.5\n')
    assert limit_options(1000) == {
        "pids_limit": 9,
        "tmpfs": {"/tmp": f"mode=1777,size={64 << 20}"},
        "nano_cpus": 1_500_000_000,
        "mem_limit": 8 << 30,
        "memswap_limit": 8 << 30,
    }


@pytest.mark.parametrize(
    "text", ['memory = "8x"', 'memory = "0"', 'tmp-size = "-1"', "pids = 0", "pids = '1'", "cpus = 0"]
)
def test_limits_that_are_none(own: Path, text: str) -> None:
    own.write_text(text)
    with pytest.raises(InputError):
        limit_options(1000)


def test_no_right_survives(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    outside.chmod(0o4755)
    run = tmp_path / "run"
    closed = run / "outputs" / "closed"
    closed.mkdir(parents=True)
    for name, mode in (
        ("setuid", 0o4755),
        ("setgid", 0o2755),
        ("sticky", 0o1644),
        ("plain", 0o640),
        ("open", 0o666),
        ("shut", 0o000),
    ):
        (closed / name).touch()
        (closed / name).chmod(mode)
    (closed / "link").symlink_to(outside)
    os.mkfifo(closed / "pipe")
    closed.chmod(0o2000)
    (run / "outputs").chmod(0o000)
    take_rights(run)
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in closed.iterdir() if not path.is_symlink()}
    assert {name: modes[name] for name in ("setuid", "setgid", "sticky", "plain", "open", "shut")} == {
        "setuid": 0o755,
        "setgid": 0o755,
        "sticky": 0o644,
        "plain": 0o640,
        "open": 0o644,
        "shut": 0o400,
    }
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert stat.S_IMODE(outside.stat().st_mode) == 0o4755


def test_a_run_is_its_owners(tmp_path: Path) -> None:
    assert stat.S_IMODE(claim(tmp_path, "run").path.stat().st_mode) == 0o700


def test_the_cache_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    cache_folder("wheels")
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    (tmp_path / "cache").chmod(0o777)
    cache_folder("wheels")
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StorageError, match="belongs to another user; name your own with SAMEBITS_CACHE"):
        cache_folder("wheels")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_everything_belongs_to_the_owner_of_the_run(tmp_path: Path) -> None:
    """Whoever wrote it: an engine may map the users of its containers to others."""
    inner = tmp_path / "run" / "outputs"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    (inner / "link").symlink_to("/etc/hostname")
    for path in (inner / "link", inner / "file", inner):
        os.chown(path, 4321, 4321, follow_symlinks=False)
    before = os.stat("/etc/hostname").st_uid
    take_rights(tmp_path / "run")
    assert {path.lstat().st_uid for path in (inner, inner / "file", inner / "link")} == {0}
    assert os.stat("/etc/hostname").st_uid == before


def test_files_that_hold_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.txt", "b.txt", "gone.txt"):
        (tmp_path / name).write_text("s3cret" if name != "b.txt" else "")
    read = read_plain

    def vanishing(path: Path, *rest: Any) -> bytes:
        if path.name == "gone.txt":
            path.unlink()
        return read(path, *rest)

    monkeypatch.setattr(tidy, "read_plain", vanishing)
    assert files_that_hold(tmp_path, ["s3cret"]) == ["a.txt"]


def test_a_link_is_not_looked_into(tmp_path: Path) -> None:
    """What a process left behind may change a file into a link while it is looked at."""
    (tmp_path / "run").mkdir()
    (tmp_path / "secret").write_text("s3cret")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "run" / "pipe")
    assert files_that_hold(tmp_path / "run", ["s3cret"]) == []
