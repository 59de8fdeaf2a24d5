"""The executor of a job array: what it submits, and what becomes of errors and of tasks that are lost."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from samebits.core.errors import InputError, ToolError
from samebits.host.cluster import array, slurm
from samebits.host.cluster.array import on_slurm, run_task
from samebits.host.cluster.patience import Patience
from samebits.host.cluster.slurm import JobStatus


def double(number: int) -> int:
    if number < 0:
        raise InputError("no negative numbers")
    return 2 * number


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The flags of each submission; nothing is asked of Slurm."""
    found: list[tuple[str, ...]] = []

    def submit(_: Path, flags: Sequence[str]) -> str:
        found.append(tuple(flags))
        return str(6 + len(found))

    monkeypatch.setattr(slurm, "submit", submit)
    monkeypatch.setattr(slurm, "cancel", lambda job: found.append(("cancel", job)))
    monkeypatch.setattr(array, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(array, "_LAST_WORDS_SECONDS", 0.0)
    return found


def test_one_array_for_what_waits(tmp_path: Path, sent: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "active", lambda _: JobStatus(state="RUNNING"))
    with on_slurm(tmp_path, ("--time=1",), in_container=False) as executor:
        answers = [executor.submit(double, number) for number in (1, 2, -1)]
        assert sent == []
        assert [answer.done() for answer in answers] == [False] * 3
        assert sent == [("--time=1", "--array=0-2")]
        for number in range(3):
            monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(number))
            assert run_task(tmp_path) == (2 if number == 2 else 0)
        assert [answer.done() for answer in answers] == [True] * 3
        assert [answer.result() for answer in answers[:2]] == [2, 4]
        with pytest.raises(ToolError, match="the task 7_2 of the job array: no negative numbers"):
            answers[2].result()
        later = executor.submit(double, 5)
        assert not later.done()
        assert sent[1:] == [("--time=1", "--array=3-3")]
    # What nobody waits for any more is not left to run.
    assert sent[2:] == [("cancel", "8_3")]


@pytest.mark.parametrize("contained", [True, False])
def test_engines_are_for_containers(
    tmp_path: Path, sent: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, contained: bool
) -> None:
    """A task in a virtual environment gets nothing of an engine."""
    for name in ("DOCKER_HOST", "CONTAINERS_CONF", "SAMEBITS_BASE"):
        monkeypatch.setenv(name, "of-an-engine")
    with on_slurm(tmp_path, in_container=contained) as executor:
        executor.submit(double, 1)
        executor.send()
    assert sent
    assert ("of-an-engine" in (tmp_path / "batch-0.sh").read_text()) == contained


def test_a_lost_task_is_no_answer(tmp_path: Path, sent: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "active", lambda _: None)
    monkeypatch.setattr(slurm, "ended", lambda _: JobStatus(state="NODE_FAIL", reason="0:9"))
    with on_slurm(tmp_path, in_container=True) as executor:
        answer = executor.submit(double, 1)
        while not answer.done():
            assert len(sent) == 1
        with pytest.raises(ToolError) as error:
            answer.result()
    assert str(error.value) == "the task 7_0 of the job array was lost: Slurm says NODE_FAIL, exit code 0:9"


def test_a_controller_that_is_restarted(
    tmp_path: Path, sent: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True, False, True, False, False, False])

    def active(_: str) -> JobStatus:
        if next(answers):
            return JobStatus(state="RUNNING")
        raise ToolError("Unable to contact slurm controller")

    now = iter(range(0, 10_000, 100))
    monkeypatch.setattr(slurm, "active", active)
    monkeypatch.setattr(array, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with on_slurm(tmp_path, in_container=True) as executor:
        executor.patience = Patience(clock=lambda: next(now))
        answer = executor.submit(double, 1)
        assert [answer.done() for _ in range(5)] == [False] * 5
        # Without a word for more than five minutes.
        next(now), next(now)
        with pytest.raises(ToolError, match="Unable to contact slurm controller"):
            answer.done()
    assert len(sent) == 2
