"""Sweeps whose trainings are played in this process, and forged summaries of them."""

import json
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from typing import Any

import pytest

from samebits.core.digest import with_checksum
from samebits.core.jsonio import readable_json
from samebits.core.run_dir import RunDir
from samebits.host.sweep.sweep_file import Sweep, SweepDir, read_sweep
from support.command import Done
from support.fake_runner import Played, played

__all__ = ["played"]


class AtOnce:
    """An executor that calls what it is given in this process."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        try:
            answer.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001  as an executor does
            answer.set_exception(error)
        return answer


@pytest.fixture
def sweeps(played: Played, monkeypatch: pytest.MonkeyPatch) -> Played:
    """Trainings whose weights follow the seed, in this process."""
    monkeypatch.setattr("samebits.host.sweep.training.in_processes", lambda _: nullcontext(AtOnce()))
    played.player.seeded = True
    return played


def sweep(played: Played, *options: str) -> Done:
    words = ["sweep", "train.py", "--data", "data", "--runtime", "venv", *(options or ("--seeds", "0-2"))]
    return played.call(*words)


def only(played: Played) -> tuple[SweepDir, Sweep]:
    """The one sweep there is."""
    (path,) = (played.project.runs / "sweeps").glob("sweep-*/sweep.json")
    return SweepDir(path.parent), read_sweep(SweepDir(path.parent))


def records(played: Played) -> dict[str, RunDir]:
    folder, found = only(played)
    return {str(run.member): RunDir(folder.runs / run.id) for run in found.runs}


def forge(folder: SweepDir, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a sweep's file, and give it the checksum that belongs to the change."""
    value = json.loads(folder.file.read_text())
    edit(value)
    value.pop("seal")
    folder.file.unlink()
    folder.file.write_bytes(readable_json(with_checksum(value)))
