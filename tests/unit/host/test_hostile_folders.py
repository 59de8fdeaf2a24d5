"""Runs that someone else has prepared: every command ends at once with one line, and reads nothing outside the folder.

A table of attacks by class. Each is made on a whole run, and all commands that read runs are called on it.
"""

import json
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from samebits.core.digest import Digest, with_checksum
from samebits.core.run_dir import RunDir
from support.fake_runner import Played, played
from support.lanes import long_tail

__all__ = ["played"]

SECRET = "the-secret-of-the-host"
COMMANDS = (
    "list",
    "list --json",
    "show RUN",
    "show RUN --json",
    "audit RUN",
    "diff RUN OTHER",
    "preflight RUN",
    "report RUN",
    "challenge RUN challenge.json",
)
Attack = Callable[[RunDir, "Outside"], object]


@dataclass(frozen=True)
class Outside:
    """What lies on the host beside the run."""

    folder: Path

    @property
    def secret(self) -> Path:
        return self.folder / "secret"

    @property
    def pipe(self) -> Path:
        """Whoever opens it for reading waits for ever."""
        return self.folder / "pipe"

    @property
    def tree(self) -> Path:
        """A folder that any folder of a run might be taken for."""
        return self.folder / "tree"

    @classmethod
    def make(cls, folder: Path) -> "Outside":
        made = cls(folder)
        made.tree.mkdir(parents=True)
        made.secret.write_text(f'{{"{SECRET}": 1}}\n')
        os.mkfifo(made.pipe)
        for name in ("0000-000004.json", "train.py", "image.json", "objects"):
            (made.tree / name).write_text(SECRET)
        return made

    def listing(self) -> list[tuple[str, int, int]]:
        stats = ((path, path.lstat()) for path in sorted(self.folder.rglob("*")))
        return [(str(path), at.st_size, at.st_mtime_ns) for path, at in stats]


# Kinds of what may lie in the place of a file.


def _removed(path: Path) -> Path:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def link_to_secret(path: Path, outside: Outside) -> None:
    _removed(path).symlink_to(outside.secret)


def link_to_pipe(path: Path, outside: Outside) -> None:
    _removed(path).symlink_to(outside.pipe)


def link_to_zero(path: Path, _: Outside) -> None:
    _removed(path).symlink_to("/dev/zero")


def link_to_itself(path: Path, _: Outside) -> None:
    _removed(path).symlink_to(path.name)


def link_to_nothing(path: Path, _: Outside) -> None:
    _removed(path).symlink_to("nothing")


def link_to_folder(path: Path, outside: Outside) -> None:
    _removed(path).symlink_to(outside.tree)


def pipe(path: Path, _: Outside) -> None:
    os.mkfifo(_removed(path))


def unix_socket(path: Path, outside: Outside) -> None:
    _removed(path)
    # A path of a socket has 107 bytes only.
    name = outside.folder / "s"
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(name))
    os.rename(name, path)


def folder(path: Path, _: Outside) -> None:
    _removed(path).mkdir()


def sparse(path: Path, _: Outside) -> None:
    with _removed(path).open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)


def deep(path: Path, _: Outside) -> None:
    _removed(path).write_text("[" * 100_000)


def zeros(path: Path, _: Outside) -> None:
    _removed(path).write_bytes(bytes(1 << 16))


def not_utf8(path: Path, _: Outside) -> None:
    _removed(path).write_bytes(b"\xff\xfe\x00\x1b]0;x\x07")


_FILES = (
    "record.json",
    "ledger.jsonl",
    "code.jsonl",
    "files.jsonl",
    "verification.json",
    "record.late.json",
    "image/image.json",
    "image/lock/requirements.lock",
    "image/source/samebits/__init__.py",
    "code/train.py",
    "checkpoints/0000-000004.json",
    "checkpoints/refused.json",
)
_KINDS = (link_to_secret, link_to_pipe, link_to_zero, pipe, folder, sparse, deep, not_utf8)
_MORE_KINDS = (link_to_itself, link_to_nothing, unix_socket, zeros)
_FOLDERS = (
    "code",
    "image",
    "image/source",
    "image/lock",
    "checkpoints",
    "checkpoints/objects",
    "outputs",
    "models",
    "tensors",
)


def _at(path: str, kind: Callable[[Path, Outside], None]) -> Attack:
    return lambda run, outside: kind(run.path / path, outside)


# Records that whoever makes the run has written: their checksums are right.


def _record(edit: Callable[[dict[str, Any]], object]) -> Attack:
    def attack(run: RunDir, _: Outside) -> None:
        values = json.loads(run.record.read_text())
        edit(values)
        values["recipe_digest"] = str(Digest.of_json(values["recipe"]))
        if values.get("result") is not None:
            values["result_digest"] = str(Digest.of_json(values["result"]))
        body = {name: item for name, item in values.items() if name != "seal"}
        run.record.unlink()
        with suppress(UnicodeEncodeError):  # half a character has no digest
            values = with_checksum(body)
        run.record.write_text(json.dumps(values, ensure_ascii=True))

    return attack


def _code(name: str, value: object) -> Attack:
    return _record(lambda values: values["recipe"]["code"].update({name: value}))


def _output(path: str) -> Attack:
    item = {"path": path, "by": "bytes", "digest": f"sha256:{'0' * 64}"}
    return _record(lambda values: values["result"]["outputs"].append(item))


def _manifest(name: str, line: dict[str, Any]) -> Attack:
    def attack(run: RunDir, _: Outside) -> None:
        path = run.path / name
        content = path.read_bytes() + json.dumps(line).encode() + b"\n"
        _removed(path).write_bytes(content)
        if name == "files.jsonl":
            _record(lambda values: values.update(files=str(Digest.of_bytes(content))))(run, _)
        else:
            _record(lambda values: values["recipe"]["code"].update(tree=str(Digest.of_bytes(content))))(run, _)

    return attack


def _deep_folders(run: RunDir, _: Outside) -> None:
    here = run.outputs
    for _number in range(200):
        here = here / "d"
    here.mkdir(parents=True)


def _bad_names(run: RunDir, _: Outside) -> None:
    for name in (b"\xff\xfe", b"\x1b[2J", b"a\nb", "\u202eb".encode(), b"\\", b"\x9b1m"):
        (run.outputs / os.fsdecode(name)).write_text("")


def _object_link(run: RunDir, outside: Outside) -> None:
    for path in list((run.path / "checkpoints" / "objects").iterdir()):
        link_to_secret(path, outside)


def _ledger_bomb(run: RunDir, _: Outside) -> None:
    run.ledger.write_bytes(b'{"event": "' + b"x" * (66 << 20) + b'"}\n')


_ESCAPES = "\x1b[2Jidentical\r\n\x9b1m\u202e\u2066\x07"
_HALF = "\ud800"
_PATHS = ("../x", "/etc/passwd", "a/../../x", "..", ".", "", "a//b", "a\0b")

_DIGITS = "9" * 5000
"""More than `int` takes."""


def _resumes(digits: str) -> dict[str, Any]:
    place = f"{digits}-{digits}"
    return {"id": "x", "seal": "x", "run": "x", "checkpoint": place, "replays": place, "until": place, "line": 1}


ATTACKS: dict[str, Attack] = {
    **{f"kind: {kind.__name__} as {path}": _at(path, kind) for path in _FILES for kind in _KINDS},
    **{f"kind: {kind.__name__} as record.json": _at("record.json", kind) for kind in _MORE_KINDS},
    **{f"kind: {kind.__name__} as ledger.jsonl": _at("ledger.jsonl", kind) for kind in _MORE_KINDS},
    **{f"folder: {path} is a link": _at(path, link_to_folder) for path in _FOLDERS},
    **{f"folder: {path} is a pipe": _at(path, pipe) for path in _FOLDERS},
    "folder: nested deeply": _deep_folders,
    "folder: names of control characters": _bad_names,
    "folder: objects are links": _object_link,
    "size: a line of 66 MiB": _ledger_bomb,
    **{f"path: entry {path!r}": _code("entry", path) for path in _PATHS},
    **{f"path: workdir {path!r}": _code("workdir", path) for path in ("../x", "/etc")},
    **{f"path: pythonpath {path!r}": _code("pythonpath", [path]) for path in ("../x", "/etc")},
    **{f"path: output {path!r}": _output(path) for path in _PATHS},
    **{f"path: {name} {path!r}": _manifest(name, {"path": path, "size": 1, "digest": f"sha256:{'0' * 64}"})
       for name in ("code.jsonl", "files.jsonl") for path in ("../secret", "/etc/passwd", "code/../../x")},
    "text: escapes in the id": _record(lambda values: values.update(id=_ESCAPES)),
    "text: escapes in the message": _record(lambda values: values["outcome"].update(message=_ESCAPES)),
    "text: escapes in arguments": _code("arguments", [_ESCAPES]),
    "text: escapes in an output": _output(_ESCAPES),
    "text: escapes in the start": _record(lambda values: values.update(started=_ESCAPES)),
    "text: escapes in a metric": _record(
        lambda values: values["result"]["fits"][0]["history"].update({_ESCAPES: ["0x1p+0"]})
    ),
    "text: half a character in the id": _record(lambda values: values.update(id=_HALF)),
    "text: a level of escapes": _record(lambda values: values.update(goal=_ESCAPES)),
    "value: a start in the year 9999": _record(lambda values: values.update(started="9999-12-31T23:59:59+00:00")),
    "value: a huge number": _record(lambda values: values["recipe"].update(seed=10**400)),
    "value: a negative time": _record(lambda values: values["timings"].update(total=-1e308)),
    "value: a version of many digits": _record(lambda values: values.update(version=f"{_DIGITS}.0")),
    "value: a minor version of many digits": _record(lambda values: values.update(version=f"1.{_DIGITS}")),
    "value: a place of many digits": _record(lambda values: values["origin"].update(resumes=_resumes(_DIGITS))),
    "value: a retention of many digits": _record(
        lambda values: values["checkpoints"].update(keep=f"every:{_DIGITS}")
    ),
    "value: a version of letters": _record(lambda values: values.update(version="1.x")),
    "value: data that is the host's": _record(lambda values: values["origin"].update(data="/proc/self")),
    "value: a list as the recipe": _record(lambda values: values.update(recipe=[])),
    "value: a trace of nothing": _record(lambda values: values.update(trace={})),
}  # fmt: skip
"""By `class: what`."""

_REPEATED = {
    f"kind: {kind.__name__} as {path}"
    for row, path in enumerate(_FILES)
    for column, kind in enumerate(_KINDS)
    if path not in ("record.json", "ledger.jsonl") and (row + column) % 2
}
"""Each kind and each file stands in one of the others, too."""

_TEMPLATES: dict[str, Path] = {}


@pytest.fixture
def foreign(played: Played, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Outside]:
    """A whole run and another one of the same recipe; trained once, and copied for every attack."""
    if not _TEMPLATES:
        kept = tmp_path_factory.mktemp("template")
        run = played.train("--keep", "all")
        (run.outputs / "notes").write_text("x")
        for name in ("20260101T000000Z-train-aaaaaaaa", "20260101T000001Z-train-bbbbbbbb"):
            shutil.copytree(run.path, kept / name)
            _TEMPLATES[name] = kept / name
        shutil.rmtree(run.path)
    played.project.runs.mkdir(exist_ok=True)
    for name, path in _TEMPLATES.items():
        shutil.copytree(path, played.project.runs / name, dirs_exist_ok=True)
    return RunDir(played.project.runs / min(_TEMPLATES)), Outside.make(played.project.folder / "host")


def _check(attack: str, word: str, status: int, out: str, err: str) -> None:
    said = f"{attack}, {word}: {status}\n{out}\n{err}"
    assert status in {0, 1, 2, 3}, said
    assert "Traceback" not in err, said
    assert "defect of samebits" not in err, said
    assert SECRET not in out + err, said
    assert all(letter.isprintable() or letter == "\n" for letter in out + err), said


@pytest.mark.timeout(120)
@pytest.mark.parametrize("attack", long_tail(ATTACKS, ATTACKS.keys() - _REPEATED))
def test_attack(foreign: tuple[RunDir, Outside], played: Played, attack: str) -> None:
    run, outside = foreign
    other = max(_TEMPLATES)
    ATTACKS[attack](run, outside)
    before, trained = outside.listing(), len(played.player.trained)
    for command in COMMANDS:
        words = command.replace("RUN", run.path.name).replace("OTHER", other).split()
        done = played.call(*words)
        _check(attack, command, done.status, done.out, done.err)
    assert outside.listing() == before
    assert len(played.player.trained) == trained, "nothing of it was executed"


def test_there_are_attacks_of_every_class() -> None:
    classes = [name.partition(":")[0] for name in ATTACKS]
    assert {name: classes.count(name) for name in dict.fromkeys(classes)}.keys() >= {"kind", "folder", "path", "text"}
    assert len(ATTACKS) >= 150


def test_a_whole_run_is_no_attack(foreign: tuple[RunDir, Outside], played: Played) -> None:
    """So what the table finds, it finds for the attack."""
    run, _ = foreign
    for command, status in (("show RUN", 0), ("audit RUN", 2), ("list", 0)):
        assert played.call(*command.replace("RUN", run.path.name).split()).status == status
