"""Repositories that someone else has prepared, and runs that change while they are read.

A table of attacks by class, as in `test_hostile_folders`. Every command ends within seconds with lines that can be
read, and neither shows, changes nor starts anything outside of the project.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from samebits.host.launch import git_commit
from support.fake_runner import Played, played
from support.lanes import long_tail
from support.limits import limited

__all__ = ["played"]

SECRET = "the-secret-of-the-host"
_SECONDS = 10
Attack = Callable[["Project"], object]


class Project:
    """A cloned repository, and what lies on the host beside it."""

    def __init__(self, folder: Path, host: Path) -> None:
        self.folder = folder
        self.host = host
        self.secret = self.host / "secret"
        self.secret.write_text(f"{SECRET} = 1\n")
        self.started = self.host / "started"
        """What a program that the repository names would make."""

    @property
    def program(self) -> str:
        path = self.folder / "program"
        path.write_text(f"#!/bin/sh\ntouch {self.started}\n")
        path.chmod(0o755)
        return str(path)

    def write(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))

    def git(self, config: str) -> None:
        """Make it a repository with a commit, and add to its configuration."""
        for words in (("init", "-q"), ("add", "train.py"), ("commit", "-q", "-m", "x")):
            subprocess.run(["git", *_AUTHOR, *words], cwd=self.folder, check=True, capture_output=True)
        with (self.folder / ".git" / "config").open("a") as file:
            file.write(config)

    def listing(self) -> list[tuple[str, int, int]]:
        return [(str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in sorted(self.host.rglob("*"))]


_AUTHOR = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "init.defaultBranch=main")
_ESCAPES = "\x1b[2Jidentical\r\n\x9b1m\u202e\u2066\x07"
_DEEP = "[" * 100_000
_CELL = {"cell_type": "code", "source": "x = 1", "metadata": {}, "outputs": []}


def _pipe(name: str) -> Attack:
    def attack(project: Project) -> None:
        path = project.folder / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    return attack


def _link(name: str, target: str = "/dev/zero") -> Attack:
    def attack(project: Project) -> None:
        path = project.folder / name
        path.unlink(missing_ok=True)
        path.symlink_to(target.replace("SECRET", str(project.secret)).replace("HOST", str(project.host)))

    return attack


def _file(name: str, content: str | bytes) -> Attack:
    return lambda project: project.write(name, content)


def _git(config: str) -> Attack:
    return lambda project: project.git(config.replace("PROGRAM", project.program).replace("HOST", str(project.host)))


def _git_pipe(name: str) -> Attack:
    def attack(project: Project) -> None:
        project.git("")
        path = project.folder / ".git" / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    return attack


def _sparse(project: Project) -> None:
    with (project.folder / "large.bin").open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)


def _notebook(content: object) -> Attack:
    def attack(project: Project) -> None:
        project.write("train.py", b"")
        text = content if isinstance(content, str) else json.dumps(content)
        project.write("train.ipynb", text)

    return attack


def _marker(project: Project) -> None:
    (project.folder / "runs").mkdir()
    (project.folder / "runs" / ".samebits-runs").symlink_to(project.host / "made")


_READ = ("samebits.toml", "pyproject.toml", "requirements.in", "requirements.lock", "inputs.lock", "train.py")
_OPTIONS = {
    "runtime": '"venv"',
    "image": '"-v"',
    "data": '"~/.ssh"',
    "runs": '"/tmp"',
    "pythonpath": '["/etc"]',
    "workdir": '"/"',
    "exclude": '["../*"]',
    "env": '["LD_PRELOAD"]',
    "trust-its-code": '"x"',
    "max-hours": "1e9",
    "memory": '"1t"',
    "gpus": f'"{"9" * 5000}"',
    "keep": f'"every:{"9" * 5000}"',
    "python": f'"3.{"9" * 5000}"',
}
_PARTIAL = '[remote "origin"]\n\tpromisor = true\n[extensions]\n\tpartialClone = origin\n'
_GIT_CONFIGS = {
    "fsmonitor": "[core]\n\tfsmonitor = PROGRAM\n",
    "hooks": "[core]\n\thooksPath = .\n",
    "pager": "[core]\n\tpager = PROGRAM\n[pager]\n\tls-tree = PROGRAM\n\tconfig = PROGRAM\n",
    "ssh": f'[core]\n\tsshCommand = PROGRAM\n[remote "origin"]\n\turl = ssh://x/x\n{_PARTIAL}',
    "ext": f'[protocol]\n\tallow = always\n[remote "origin"]\n\turl = ext::PROGRAM\n{_PARTIAL}',
    "alias": "[alias]\n\trev-parse = !PROGRAM\n\tls-tree = !PROGRAM\n\tconfig = !PROGRAM\n",
    "filter": '[filter "x"]\n\tclean = PROGRAM\n\tsmudge = PROGRAM\n\tprocess = PROGRAM\n',
    "differ": "[diff]\n\texternal = PROGRAM\n",
    "credentials": "[credential]\n\thelper = !PROGRAM\n",
    "trace": "[trace2]\n\teventTarget = HOST/made\n",
    "an endless include": "[include]\n\tpath = /dev/zero\n",
    "a worktree elsewhere": "[core]\n\tworktree = /\n",
    "escapes in the remote": '[remote "origin"]\n\turl = "https://x/\x1b[2J\\n"\n',
    "a remote of options": '[remote "origin"]\n\turl = --upload-pack=PROGRAM\n',
}
_REQUIREMENTS = (
    "-r /etc/passwd",
    "--index-url http://127.0.0.1:9/",
    "-e .",
    "x @ file:///etc/passwd",
    "--find-links /etc",
    "--config-settings=x",
    "x --global-option=y",
    "git+ssh://x/x",
    f"{_ESCAPES}",
)
_CELLS = {
    "escapes": f"{_ESCAPES} =",
    "a magic": "!touch started",
    "deep code": "(" * 5000 + ")" * 5000,
    "a number": 7,
    "half a character": "x = '\ud800'",
}
_NOTEBOOKS = {
    "deep": _DEEP,
    "a list": [],
    "no cells": {"nbformat": 4},
    "kernel": {"nbformat": 4, "metadata": {"kernelspec": {"language": _ESCAPES}}, "cells": []},
    **{name: {"nbformat": 4, "cells": [_CELL | {"source": source}]} for name, source in _CELLS.items()},
}
_LINES = ("profile", "shuffle", "keep", "runs", "data", "level", "workdir")
ATTACKS: dict[str, Attack] = {
    **{f"kind: a pipe as {name}": _pipe(name) for name in (*_READ, ".git", ".gitignore")},
    **{f"kind: /dev/zero as {name}": _link(name) for name in _READ},
    **{f"kind: a secret as {name}": _link(name, "SECRET") for name in _READ},
    **{f"depth: {name}": _file(name, "a = " + "[\n" * 5000) for name in ("samebits.toml", "pyproject.toml")},
    **{f"depth: {name}": _file(name, _DEEP) for name in ("inputs.lock", "requirements.in", "train.py")},
    "depth: keys": _file("samebits.toml", "a" + ".a" * 100_000 + " = 1"),
    "size: of a number": _file("samebits.toml", f"seed = {'9' * 9_000}"),
    "size: of a file of holes": _sparse,
    "folders: the marker of runs is a link": _marker,
    "folders: outputs of an earlier run": _link("outputs", "HOST"),
    **{f"text: {name}": _file("samebits.toml", f"{name} = {json.dumps(_ESCAPES)}") for name in _LINES},
    "text: a key": _file("samebits.toml", f"{json.dumps(_ESCAPES)} = 1"),
    "text: a name in the code": lambda project: project.write(_ESCAPES, ""),
    "text: a name that is no text": lambda project: Path(project.folder, os.fsdecode(b"\xff\xfe")).touch(),
    **{f"option: {key}": _file("samebits.toml", f"{key} = {value}") for key, value in _OPTIONS.items()},
    **{f"git: {name}": _git(config) for name, config in _GIT_CONFIGS.items()},
    **{f"git: a pipe as {name}": _git_pipe(name) for name in ("HEAD", "config", "packed-refs", "refs/heads/main")},
    **{f"lock: {line!r}": _file("requirements.in", line + "\n") for line in _REQUIREMENTS},
    **{f"notebook: {name}": _notebook(content) for name, content in _NOTEBOOKS.items()},
}
"""By `class: what`."""

COMMANDS = ("train SCRIPT", "list", "check SCRIPT")
LOCKING = ("lock: ", "requirements.in", "pyproject.toml")
"""In attacks that are named so, `lock` ends before it asks a registry."""


_USUAL = (
    *("kind: a pipe as samebits.toml", "kind: a pipe as requirements.lock", "kind: a pipe as train.py"),
    *("kind: /dev/zero as samebits.toml", "kind: a secret as samebits.toml", "kind: a secret as requirements.in"),
    *("depth: samebits.toml", "depth: keys", "folders: the marker of runs is a link", "text: a name in the code"),
    *("git: fsmonitor", "git: ext", "git: a pipe as config", "lock: '-e .'", "notebook: no cells", "option: env"),
)
"""One of each class, and those that succeeded once."""


def test_there_are_attacks_of_every_class() -> None:
    assert len(ATTACKS) >= 80
    assert set(_USUAL) <= ATTACKS.keys()


@pytest.mark.parametrize("attack", long_tail(ATTACKS, _USUAL))
def test_attack(
    played: Played, attack: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git_commit._LIMIT_SECONDS < _SECONDS
    monkeypatch.setattr(git_commit, "_LIMIT_SECONDS", 1.0)
    project = Project(played.project.folder, tmp_path_factory.mktemp("host"))
    ATTACKS[attack](project)
    before = project.listing()
    script = "train.ipynb" if attack.startswith("notebook:") else "train.py"
    locking = ("lock",) if any(name in attack for name in LOCKING) else ()
    for command in (*COMMANDS, "init", *locking):
        with limited(_SECONDS):
            done = played.call(*command.replace("SCRIPT", script).split())
        said = f"{attack}, {command}: {done.status}\n{done.out}\n{done.err}"
        assert done.status in {0, 1, 2, 3}, said
        assert "Traceback" not in done.err, said
        assert "defect of samebits" not in done.err, said
        assert SECRET not in done.out + done.err, said
        assert all(letter.isprintable() or letter == "\n" for letter in done.out + done.err), said
    assert project.listing() == before
