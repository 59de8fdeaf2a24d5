"""Preflight's row for the inputs: in the store, beside the run, or fetched again by URL."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.inputs_lock import InputsLock, PinnedFile
from samebits.core.record import Record
from samebits.core.run_config import REPRODUCIBILITY_LEVELS
from samebits.core.run_dir import RunDir
from samebits.host.fetch.script_fetch import export_inputs
from samebits.host.inputs.obtain import obtain
from samebits.host.inputs.store import InputStore, provide
from samebits.host.rerun.hardware import PreflightCheck
from samebits.host.rerun.inputs_check import inputs_check
from support.fake_runner import Played, played
from support.hosts import Hosts, answering

__all__ = ["played"]

_URL = "https://example.com/a.bin"
_CONTENT = b"one"
_FILE = PinnedFile(path="home/a.bin", digest=Digest.of_bytes(_CONTENT), size=3, url=_URL)
_LOCK = InputsLock.of([_FILE])
_NAMELESS = InputsLock.of([replace(_FILE, url=None)])


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    """An empty store, and a server that has the file."""
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "authority").mkdir()
    with answering(tmp_path / "authority", "example.com") as hosts:
        for name, value in hosts.environment.items():
            monkeypatch.setenv(name, value)
        hosts.files[_URL] = _CONTENT
        yield hosts


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "runs" / "run")
    run.path.mkdir(parents=True)
    _LOCK.write(run.inputs)
    return run


def _rows(run: RunDir, example: Record, *, fetch: bool, offline: bool = False) -> list[PreflightCheck]:
    record = replace(example, recipe=replace(example.recipe, inputs=_LOCK.digest))
    return list(inputs_check(run, record, fetch=fetch, offline=offline))


def _row(run: RunDir, example: Record, *, fetch: bool, offline: bool = False) -> tuple[str, str, tuple[str, ...]]:
    (row,) = _rows(run, example, fetch=fetch, offline=offline)
    assert (row.name, row.wanted) == ("inputs", _LOCK.digest.short)
    return row.found, row.reason, row.blocks


_READY = (_LOCK.digest.short, "", ())


def test_a_run_without_inputs_has_no_row(run: RunDir, example: Record) -> None:
    assert example.recipe.inputs is None
    assert list(inputs_check(run, example, fetch=True, offline=False)) == []


def test_they_are_fetched_again_where_the_run_is_repeated(run: RunDir, example: Record, hosts: Hosts) -> None:
    assert _row(run, example, fetch=False) == ("0 of 1 file", "`samebits verify` fetches home/a.bin", ())
    found, reason, blocks = _row(run, example, fetch=True, offline=True)
    assert (found, blocks) == ("0 of 1 file", REPRODUCIBILITY_LEVELS)
    assert "the network may not be used" in reason
    assert hosts.asked == []
    assert _row(run, example, fetch=True) == _READY
    # From the store.
    assert _row(run, example, fetch=False) == _READY
    assert hosts.urls() == [_URL]


def test_another_file_at_the_server_blocks(run: RunDir, example: Record, hosts: Hosts) -> None:
    hosts.files[_URL] = b"onE"
    _, reason, blocks = _row(run, example, fetch=True)
    assert "is another file now" in reason
    assert blocks == REPRODUCIBILITY_LEVELS


def test_they_are_found_beside_the_run(run: RunDir, example: Record, hosts: Hosts, tmp_path: Path) -> None:
    """As `samebits fetch --export` writes them; no URL is needed, and no network."""
    obtain([_FILE])
    export_inputs(_LOCK, run.path.parent / "inputs")
    shutil.rmtree(tmp_path / "cache")
    hosts.asked.clear()
    _NAMELESS.write(run.inputs)
    assert _row(run, example, fetch=True, offline=True) == _READY
    assert (provide(_LOCK) / "home" / "a.bin").read_bytes() == _CONTENT
    assert hosts.asked == []


def test_what_is_changed_beside_the_run_is_not_taken(run: RunDir, example: Record, hosts: Hosts) -> None:
    beside = run.path.parent / "inputs" / "home"
    beside.mkdir(parents=True)
    (beside / "a.bin").write_bytes(b"onE")
    assert _row(run, example, fetch=True) == _READY
    assert hosts.urls() == [_URL]
    assert InputStore().path(_FILE.digest).read_bytes() == _CONTENT


@pytest.mark.usefixtures("hosts")
def test_a_file_that_nobody_has_blocks(run: RunDir, example: Record) -> None:
    _NAMELESS.write(run.inputs)
    reason = "no URL is known for home/a.bin; take the files with `samebits fetch --import`"
    assert _row(run, example, fetch=False) == ("0 of 1 file", reason, REPRODUCIBILITY_LEVELS)


@pytest.mark.usefixtures("hosts")
def test_a_lock_that_is_not_the_recorded_one_blocks(run: RunDir, example: Record) -> None:
    InputsLock.of([replace(_FILE, path="home/b.bin")]).write(run.inputs)
    _, reason, blocks = _row(run, example, fetch=True)
    assert reason == "inputs.lock is not the recorded one; restore the run's folder"
    assert blocks == REPRODUCIBILITY_LEVELS
    run.inputs.unlink()
    found, reason, blocks = _row(run, example, fetch=True)
    assert (found, blocks) == ("none", REPRODUCIBILITY_LEVELS)
    assert reason.endswith("; restore the run's folder")


def test_resume_and_verify_fetch_them_again(played: Played, hosts: Hosts, tmp_path: Path) -> None:
    obtain([_FILE])
    _LOCK.write(played.project.folder / "inputs.lock")
    played.player.dies = 0, 2
    run = played.train()
    played.player.dies = None
    assert run.read().recipe.inputs == _LOCK.digest
    for words in (("resume", run.path.name), ("verify", "last")):
        shutil.rmtree(tmp_path / "cache" / "inputs")
        hosts.asked.clear()
        refused = played.call(*words, "--offline")
        assert "1 input not here, and the network may not be used: home/a.bin" in refused.out + refused.err
        done = played.call(*words)
        assert done.status == 0, done.out + done.err
        assert hosts.urls() == [_URL]
