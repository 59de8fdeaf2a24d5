"""Every single change to a run's folder is named by `audit`, and no command uses a changed file silently."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.recipe import KNOWN_LOGS
from samebits.core.record import RUNNING, Outcome, read_record, write_record
from samebits.core.result import OutputFile, Result
from samebits.core.run_dir import RunDir
from samebits.host.audit.file_audit import REWRITTEN, FileAudit, audit_files
from support.fake_runner import Played, played

__all__ = ["played"]


@pytest.fixture
def run(played: Played) -> RunDir:
    """A finished run with files of every kind."""
    return complete(played.train("--keep", "all"), files=True)


def complete(run: RunDir, *, files: bool) -> RunDir:
    """The run with outputs, models and tensors, finalized again; without its manifest as older versions left it."""
    record = run.read()
    (run.outputs / "plots").mkdir(parents=True)
    (run.outputs / "plots" / "a.txt").write_text("plot")
    (run.outputs / "m.keras").write_text("by its tensors")
    (run.outputs / "latest").symlink_to("plots/a.txt")
    (run.outputs / "none").mkdir()
    (run.models / "0-m.keras").write_text("model")
    run.log.write_text("said\n")
    run.tensors.mkdir()
    (run.tensors / Digest.of_bytes(b"tensor").hex).write_bytes(b"tensor")
    outputs = (
        OutputFile(path="latest", by="link", digest=str(Digest.of_bytes(b"plots/a.txt"))),
        OutputFile(path="m.keras", by="tensors", digest=str(Digest.of_bytes(b"tensors"))),
        OutputFile(path="plots/a.txt", by="bytes", digest=str(Digest.of_bytes(b"plot"))),
    )
    record = replace(record, result=replace(record.result or Result(), outputs=outputs))
    run.record.unlink()
    run.manifest.unlink()
    write_record(run.record, replace(record, outcome=Outcome(state=RUNNING), result=None, ledger=None, files=None))
    if files:
        run.finalize(record)
    else:
        write_record(run.record, replace(record, files=None))
    return run


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def rename(path: Path) -> None:
    path.rename(path.with_name(path.name + ".old"))


def link(path: Path) -> None:
    """To a file of the same content."""
    copy = path.parents[len(path.parents) - 2] / "copy-of-it"
    target = Path(os.environ["TMPDIR"]) / copy.name
    target.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(target)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def executable(path: Path) -> None:
    path.chmod(0o755)


CHANGES: dict[str, Callable[[Path], None]] = {
    "flip": flip,
    "truncate": truncate,
    "remove": Path.unlink,
    "rename": rename,
    "link": link,
    "pipe": pipe,
    "folder": folder,
    "executable": executable,
}


def files_of(run: RunDir) -> list[str]:
    """All files but the record, which is checked before any of them."""
    found = (path for path in run.path.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(str(path.relative_to(run.path)) for path in found if path != run.record)


@pytest.fixture
def copies(run: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], RunDir]:
    """A fresh copy of the run, for each change one."""
    place = tmp_path_factory.mktemp("copies")
    os.environ["TMPDIR"] = str(place)

    def copy() -> RunDir:
        target = place / run.path.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(run.path, target, symlinks=True)
        for path in target.rglob("*"):
            if not path.is_symlink() and path.is_file():
                path.chmod(path.stat().st_mode | 0o200)
        return RunDir(target)

    return copy


def audit(run: RunDir) -> FileAudit:
    return audit_files(run, read_record(run.record))


def named(found: FileAudit) -> list[str]:
    return [change.path for change in found.damages]


def test_an_untouched_run(run: RunDir, copies: Callable[[], RunDir], played: Played) -> None:
    for one in (run, copies()):
        assert audit(one).changes == ()
        assert audit(one).unchecked == ()
    done = played.call("audit", "last")
    assert (done.status, done.out.splitlines()[-1]) == (0, "as recorded")


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_to_every_file_is_named(change: str, run: RunDir, copies: Callable[[], RunDir]) -> None:
    # Of the kept source, which has hundreds of files, a few stand for all.
    source = [name for name in files_of(run) if name.startswith("image/source/")]
    names = [name for name in files_of(run) if name not in source] + source[::40]
    copy, unnamed = copies(), []
    for name in names:
        path = copy.path / name
        if change in ("flip", "truncate") and not path.stat().st_size:
            continue
        CHANGES[change](path)
        if name not in named(audit(copy)):
            unnamed.append(name)
        restore(path, run.path / name)
    assert len(names) > 20
    assert unnamed == []
    assert audit(copy).changes == ()


def restore(path: Path, original: Path) -> None:
    """Undo a change: the file as it was, and nothing else in its folder."""
    wanted = {other.name for other in original.parent.iterdir()} - {original.name}
    for other in path.parent.iterdir():
        if other.name not in wanted:
            remove(other)
    shutil.copy2(original, path)
    path.chmod(path.stat().st_mode | 0o200)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def places(run: RunDir) -> Iterator[Path]:
    found = [path for path in sorted(run.path.rglob("*")) if path.is_dir() and not path.is_symlink()]
    source = [path for path in found if "source" in path.parts]
    yield from [path for path in found if path not in source] + source[::10]


def test_every_added_file_is_named(run: RunDir, copies: Callable[[], RunDir]) -> None:
    copy = copies()
    for inside in places(run):
        for name in ("new", "__pycache__/x.pyc", ".hidden"):
            path = copy.path / inside.relative_to(run.path) / name
            added = path if path.parent.exists() else path.parent
            path.parent.mkdir(exist_ok=True)
            path.write_text("new")
            assert str(path.relative_to(copy.path)) in named(audit(copy))
            remove(added)
    assert audit(copy).changes == ()


def test_folders_and_links(run: RunDir, copies: Callable[[], RunDir]) -> None:
    copy = copies()
    (copy.outputs / "none").rmdir()
    (copy.outputs / "latest").unlink()
    (copy.outputs / "latest").symlink_to("/etc/passwd")
    (copy.models / "new").mkdir()
    assert [str(change) for change in audit(copy).damages] == [
        "models/new/ was added",
        "outputs/latest was changed",
        "outputs/none/ was removed",
    ]
    copy = copies()
    shutil.rmtree(copy.code)
    copy.code.symlink_to(run.code)
    assert "code/ is a link now" in map(str, audit(copy).damages)


def test_a_note_beside_it_is_no_damage(run: RunDir, played: Played) -> None:
    (run.path / "notes.txt").write_text("my best run")
    done = played.call("audit", run.path.name)
    assert done.status == 0
    assert "notes.txt" in done.out


def test_an_audit_names_all_and_ends_with_2(run: RunDir, played: Played) -> None:
    (run.outputs / "plots" / "a.txt").write_text("plow")
    (run.outputs / "a\x1b[31m").write_text("red")
    done = played.call("audit", run.path.name)
    assert done.status == 2
    assert "outputs/plots/a.txt" in done.out
    assert "\x1b" not in done.out
    assert done.out.splitlines()[-1] == "changed"
    (found,) = json.loads(played.call("audit", run.path.name, "--json").out)
    assert {"path": "outputs/plots/a.txt", "change": "changed"} in found["files"]


def test_a_record_that_was_changed(run: RunDir, played: Played) -> None:
    run.record.chmod(0o644)
    run.record.write_text(run.record.read_text().replace('"seed": 0', '"seed": 1'))
    done = played.call("audit", run.path.name)
    assert done.status == 2
    assert "the checksum does not match" in done.out


def test_a_record_with_a_second_result(run: RunDir, played: Played) -> None:
    run.record.chmod(0o644)
    run.record.write_text('{"result": {"forged": 1},' + run.record.read_text().removeprefix("{"))
    done = played.call("audit", run.path.name)
    assert done.status == 2
    assert "the key 'result' is there twice" in done.out
    done = played.call("show", run.path.name)
    assert done.status == 2
    assert "the key 'result' is there twice" in done.err


@pytest.mark.parametrize("more", ["\n", " \n\n"])
def test_a_record_of_the_same_values_in_other_bytes(run: RunDir, played: Played, more: str) -> None:
    run.record.chmod(0o644)
    run.record.write_text(run.record.read_text() + more)
    (found,) = json.loads(played.call("audit", run.path.name, "--json").out)
    assert found["files"] == [{"path": "record.json", "change": REWRITTEN}]
    done = played.call("audit", run.path.name)
    assert done.status == 2
    assert done.out.splitlines()[-1] == "changed"


def test_files_of_a_run_that_lives_are_named_once_it_ended(run: RunDir) -> None:
    for name in (".reserve", ".record.x", ".record.json.a1", ".files.jsonl.b2"):
        (run.path / name).write_text("x")
        assert [str(change) for change in audit(run).changes] == [f"{name} was added"]
        (run.path / name).unlink()


def trains(played: Played, name: str) -> bool:
    """Whether `verify` goes as far as to train."""
    before = len(played.player.trained)
    played.call("verify", name)
    return len(played.player.trained) > before


@pytest.mark.parametrize("name", ["code/train.py", "image/image.json", "code.jsonl", "data.jsonl", "models/0-m.keras"])
def test_no_command_uses_it_silently(name: str, run: RunDir, played: Played) -> None:
    shutil.copytree(run.path, run.path.with_name("whole"), symlinks=True)
    assert played.call("diff", "whole", run.path.name).status == 0
    assert trains(played, "whole")
    flip(run.path / name)
    trained = len(played.player.trained)
    for words in (("diff", run.path.name, "whole"), ("verify", run.path.name), ("preflight", run.path.name)):
        done = played.call(*words)
        assert done.status in (2, 3), words
        # The row `code` names a file within the code.
        assert name.removeprefix("code/") in done.out + done.err, words
    done = played.call("verify", "whole", "--against", run.path.name)
    assert done.status == 3
    assert name in done.out
    assert len(played.player.trained) == trained


def test_what_was_removed_to_save_space_is_said(run: RunDir, played: Played) -> None:
    (run.models / "0-m.keras").unlink()
    assert "models/0-m.keras was removed" in played.call("diff", run.path.name, run.path.name).err
    assert "models/0-m.keras was removed" in played.call("preflight", run.path.name).out
    assert trains(played, run.path.name)


@pytest.mark.parametrize("name", ["code/train.py", "image/image.json", "image/Dockerfile"])
def test_a_changed_run_is_not_resumed(name: str, played: Played) -> None:
    played.player.dies = 0, 2
    run = played.train()
    played.player.dies = None
    flip(run.path / name)
    done = played.call("resume", run.path.name)
    assert done.status == 2
    assert name.removeprefix("code/") in done.complaint


# Runs from before record version 1.4 have no manifest.


@pytest.fixture
def old(played: Played) -> RunDir:
    return complete(played.train("--keep", "all"), files=False)


def test_what_an_old_record_proves(old: RunDir) -> None:
    found = audit(old)
    assert found.changes == ()
    assert found.unchecked == ("README.txt", "log.txt", "models/0-m.keras")
    for name, change in {
        "code/train.py": "code/train.py",
        "code.jsonl": "code.jsonl",
        "data.jsonl": "data.jsonl",
        "image/Dockerfile": "image/source/ or image/Dockerfile",
        "image/image.json": "image/image.json",
        "image/lock/requirements.lock": "image/lock/requirements.lock",
        "image/source/samebits/core/record.py": "image/source/ or image/Dockerfile",
        "outputs/plots/a.txt": "outputs/plots/a.txt",
        "ledger.jsonl": "ledger.jsonl",
        "checkpoints/0000-000001.json": "checkpoints/0000-000001.json",
        f"tensors/{Digest.of_bytes(b'tensor').hex}": f"tensors/{Digest.of_bytes(b'tensor').hex}",
    }.items():
        path = old.path / name
        content = path.read_bytes()
        path.chmod(0o644)
        flip(path)
        assert change in named(audit(old)), name
        path.write_bytes(content)
    assert audit(old).changes == ()


def test_files_beside_what_an_old_record_knows(old: RunDir) -> None:
    for name in ("code/helper.py", "outputs/new.txt", "tensors/new", "mine/note"):
        (old.path / name).parent.mkdir(exist_ok=True)
        (old.path / name).write_text("new")
    (old.outputs / "latest").unlink()
    (old.outputs / "latest").symlink_to("plots/b.txt")
    (old.outputs / "m.keras").unlink()
    kinds = {change.path: change.kind for change in audit(old).changes}
    assert kinds == {
        "code/helper.py": "added",
        "mine/note": "added",
        "outputs/new.txt": "added",
        "outputs/latest": "changed",
        "outputs/m.keras": "removed",
        "tensors/new": "added",
    }


def test_a_random_file_belongs_to_a_saved_model(old: RunDir) -> None:
    """The recipe leaves it out there alone."""
    record = old.read()
    old.record.unlink()
    write_record(old.record, replace(record, recipe=replace(record.recipe, ignore_outputs=KNOWN_LOGS)))
    (old.outputs / "fingerprint.pb").write_text("random")
    assert {change.path: change.kind for change in audit(old).changes}["outputs/fingerprint.pb"] == "added"
