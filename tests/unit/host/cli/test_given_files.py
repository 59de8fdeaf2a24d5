"""Files that a user names, or that a project or the user's configuration holds, in every broken form.

Each command answers with one line of its own words and status 2, and never waits.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.fake_runner import Played, played
from support.lanes import long_tail
from support.limits import limited
from support.machine import unprivileged

__all__ = ["played"]

_PYTHONS = re.compile(r"Expecting|Unterminated|Extra data|codec|Errno|Traceback|\bchar \d|Error\b")
"""Words of Python's own."""

Make = Callable[[Path], object]


def _content(content: bytes) -> Make:
    return lambda path: path.write_bytes(content)


_KINDS: dict[str, Make] = {
    "truncated": _content(b'{"a": [1,\n'),
    "an open text": _content(b'{"a": "b'),
    "words": _content(b"my notes\n"),
    "not UTF-8": _content(b'a = "\xe9"\n'),
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "closed": lambda path: path.touch(0),
}
_JSON = {"empty": _content(b""), "a list": _content(b"[]\n"), "a number": _content(b"7\n"), **_KINDS}
_TOML = {"a table in the place of a value": _content(b"on = [1]\ninputs = 3\nenv = {}\n"), **_KINDS}

FILES: dict[str, tuple[str, dict[str, Make]]] = {
    "challenge RUN own.json": ("own.json", _JSON),
    "challenge RUN own.json --against theirs.json": ("theirs.json", _JSON),
    "train train.ipynb --runtime venv": ("train.ipynb", _JSON),
    "train train.py --runtime venv": ("inputs.lock", _JSON),
    "fetch train.py --runtime venv --export files": ("inputs.lock", _JSON),
    "show other": ("runs/other/record.json", _JSON),
    "diff RUN other": ("runs/other/record.json", _JSON),
    "verify other": ("runs/other/record.json", _JSON),
    "resume other": ("runs/other/record.json", _JSON),
    "pack other": ("runs/other/record.json", _JSON),
    "show RUN": ("runs/RUN/verification.json", _JSON),
    "show sweep-1": ("runs/sweeps/sweep-1/sweep.json", _JSON),
    "follow job-1": ("runs/jobs/job-1/job.json", _JSON),
    "attest . --runtime venv": ("golden.json", _JSON),
    "unpack capsule": ("capsule", _JSON),
    "sign RUN --key key": ("key", _JSON),
    "verify RUN --require-signed key.pub": ("key.pub", _JSON),
    "list": ("samebits.toml", _TOML),
    "sweep train.py --seeds 1": ("samebits.toml", _TOML),
    "lock": ("pyproject.toml", _KINDS),
    "train train.py --runtime venv --seed 2": ("pylock.toml", _TOML),
    "train train.py --runtime venv --seed 3": ("requirements.lock", _KINDS),
    "train train.py --seed 4": ("xdg/samebits/config.toml", _TOML),
    "list --json": ("xdg/samebits/engine.toml", _TOML),
}
"""By command: the file that is broken, and how."""

_USUAL = ("challenge RUN own.json", "train train.py --runtime venv", "list", "list --json", "attest . --runtime venv")


@pytest.mark.parametrize("command", long_tail(FILES, _USUAL))
def test_a_broken_file_is_one_line(
    played: Played, monkeypatch: pytest.MonkeyPatch, open_folder: Path, command: str
) -> None:
    run = played.train().path
    # Where another user than root finds it, who may not read what is closed.
    project = open_folder / "project"
    shutil.copytree(played.project.folder, project)
    for folder in (project, *project.glob("**/")):
        folder.chmod(0o755)
    monkeypatch.chdir(project)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(project / "xdg"))
    name, kinds = FILES[command]
    path = Path(name.replace("RUN", run.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    for kind, make in kinds.items():
        make(path)
        with limited(10), unprivileged() if kind == "closed" else monkeypatch.context():
            done = played.call(*command.replace("RUN", run.name).split())
        said = f"{kind}: {done.status}\n{done.err}"
        assert done.status == 2, said
        assert done.err.startswith("samebits: "), said
        assert len(done.err.splitlines()) == 1, said
        assert {path.name, path.parent.name}.intersection(re.findall(r"[\w.-]+", done.err)), said
        assert not _PYTHONS.search(done.err), said
        shutil.rmtree(path) if path.is_dir() else path.unlink()
