"""Folders of jobs and sweeps that someone else has prepared: a repository may bring `runs/jobs` and `runs/sweeps`.

A table of attacks by class, as in `test_hostile_folders`. Without Slurm, as the job says that it was never submitted.
"""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from samebits.core.digest import with_checksum
from samebits.core.errors import SamebitsError
from samebits.core.run_config import make_config
from samebits.host.cluster import following
from samebits.host.cluster.array import run_task
from samebits.host.cluster.job_dir import JobDir
from samebits.host.cluster.submission import prepare
from samebits.host.sweep.sweep_file import SweepDir
from support.fake_runner import Played, played
from support.lanes import long_tail
from support.sweeps import only, sweep, sweeps

__all__ = ["played", "sweeps"]

SECRET = "the-secret-of-the-host"
JOB = "job-20260101T000000Z-train-aaaaaaaa"
COMMANDS = ("list --jobs", "list --jobs --json", "show JOB", "show JOB --json", "follow JOB", "cancel JOB")
Attack = Callable[[JobDir, Path], object]


def _in_place(path: Path) -> Path:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    return path


def _link(name: str, target: str) -> Attack:
    return lambda job, host: _in_place(job.path / name).symlink_to(target.replace("HOST", str(host)))


def _pipe(name: str) -> Attack:
    return lambda job, _: os.mkfifo(_in_place(job.path / name))


def _file(name: str, content: str) -> Attack:
    return lambda job, _: _in_place(job.path / name).write_text(content)


def _holes(job: JobDir, _: Path) -> None:
    with job.log.open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)


def _attempt(name: str) -> Attack:
    return lambda job, _: (job.path / "attempts" / name).touch()


def _end(**values: object) -> Attack:
    return _file("end.json", json.dumps({"status": 0, "message": None, "run": None} | values))


_ESCAPES = "\x1b[2Jidentical\x1b]0;x\x07\u202e"
_NAMES = ("log.txt", "end.json", "cancelled", "attempts", "job.json", "batch.sh")
_TARGETS = {"a secret": "HOST/secret", "/dev/zero": "/dev/zero", "a folder": "HOST", "nothing": "HOST/made"}
ATTACKS: dict[str, Attack] = {
    **{f"kind: a pipe as {name}": _pipe(name) for name in _NAMES},
    **{f"kind: {what} as {name}": _link(name, target) for name in _NAMES for what, target in _TARGETS.items()},
    **{f"depth: {name}": _file(name, "[" * 100_000) for name in _NAMES},
    "size: a log of holes": _holes,
    "text: escapes in the log": _file("log.txt", _ESCAPES),
    "text: escapes in the end": _end(status=1, message=_ESCAPES),
    "text: escapes in an attempt": _attempt(f"00000-{_ESCAPES}"),
    "value: a huge status": _end(status=10**400),
    **{f"path: the end names {run!r}": _end(run=run) for run in ("..", "/etc", "../../host", "a/b", "")},
    **{f"path: an attempt is named {name!r}": _attempt(name) for name in ("00000-..", "00000-", "00000-.")},
}
"""By `class: what`."""

_USUAL = (
    *(
        "kind: a pipe as log.txt",
        "kind: a secret as log.txt",
        "kind: a folder as log.txt",
        "kind: a secret as attempts",
    ),
    *("text: escapes in the log", "size: a log of holes", "path: the end names '/etc'", "value: a huge status"),
    *("path: an attempt is named '00000-..'", "kind: nothing as cancelled"),
)
"""One of each class, and those that succeeded once."""


@pytest.fixture
def job(played: Played, monkeypatch: pytest.MonkeyPatch) -> JobDir:
    monkeypatch.setattr(following, "_LAST_WORDS_SECONDS", 0.0)
    spec = make_config({"script": Path("train.py"), "data": Path("data"), "runtime": "venv"})
    _, made = prepare(spec, ())
    folder = JobDir(played.project.runs / "jobs" / JOB)
    (folder.path / "attempts").mkdir(parents=True)
    folder.write(made)
    return folder


@pytest.mark.timeout(60)
@pytest.mark.parametrize("attack", long_tail(ATTACKS, _USUAL))
def test_attack(played: Played, job: JobDir, attack: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    host = tmp_path_factory.mktemp("host")
    (host / "secret").write_text(SECRET)
    ATTACKS[attack](job, host)
    for command in COMMANDS:
        done = played.call(*command.replace("JOB", JOB).split())
        said = f"{attack}, {command}: {done.status}\n{done.out[:2000]}\n{done.err}"
        assert done.status in {0, 1, 2, 3}, said
        assert "defect of samebits" not in done.err, said
        assert SECRET not in done.out + done.err, said
        assert all(letter.isprintable() or letter == "\n" for letter in done.out + done.err), said
    assert [path.name for path in host.iterdir()] == ["secret"]


def test_there_are_attacks_of_every_class() -> None:
    assert len(ATTACKS) >= 40
    assert set(_USUAL) <= ATTACKS.keys()


def test_a_note_is_not_written_through_a_link(job: JobDir, tmp_path: Path) -> None:
    """Whoever cancels a job, or notes an attempt, makes no file elsewhere."""
    from samebits.core.run_dir import RunDir
    from samebits.host.cli.cluster import _note_cancelled

    job.cancelled.symlink_to(tmp_path / "made")
    with pytest.raises(SamebitsError):
        _note_cancelled(job)
    run = RunDir(job.runs / "a")
    (job.path / "attempts" / "00000-a").symlink_to(tmp_path / "made")
    with pytest.raises(OSError, match="symbolic"):
        job.note_attempt(run)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("change", ["mode", "link"])
def test_a_task_that_another_user_could_have_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """To unpickle is to execute."""
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    task = tmp_path / "0.task"
    task.write_bytes(pickle.dumps((os.mkdir, str(tmp_path / "executed"))))
    if change == "mode":
        task.chmod(0o666)
    else:
        task.rename(tmp_path / "elsewhere")
        task.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SamebitsError):
        run_task(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_a_sweep_that_was_not_begun_here_is_not_continued(sweeps: Played) -> None:
    """Else a repository's runs would count as trained by the user, and its copy of the code would be trained."""
    assert sweep(sweeps).status == 0
    folder, found = only(sweeps)
    # Unfinished, with all of its runs, in a folder of the same name: as a clone would bring it.
    values = json.loads(folder.file.read_text())
    values["runs"] = [{name: run[name] for name in ("seed", "grid", "recipe")} for run in values["runs"]]
    kept = {name: value for name, value in values.items() if name not in ("seal", "groups", "alike", "digest")}
    copied = SweepDir(folder.path.with_name("copy"))
    shutil.copytree(folder.path, copied.path)
    shutil.rmtree(folder.path)
    copied.path.rename(folder.path)
    folder.file.unlink()
    folder.file.write_text(json.dumps(with_checksum(kept)))
    sweeps.player.trained.clear()
    done = sweep(sweeps)
    assert done.status == 0, done.err
    assert f"a sweep is passed over: {found.id} was not begun here by you" in done.err
    assert sweeps.player.trained != []
