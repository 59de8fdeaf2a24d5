"""Nothing that a run's folder holds is executed on this host, unless it was trained here or the user names the run."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.digest import Digest, with_checksum
from samebits.core.errors import ImageError, InputError, UntrustedError
from samebits.core.recipe import ImageIdentity
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.core.source_digest import context_source_digest
from samebits.host import trust
from samebits.host.cache_dir import cache_folder
from samebits.host.image.build_context import CPU, GPU, context_file, cuda_lock, staged_context
from samebits.host.image.lockfile import read_lock, text_of
from samebits.host.image.received import check_dockerfile, copy_context, is_installed, received_context
from samebits.host.launch.runtime import in_recorded_venv, was_in_container
from support.fake_runner import Played, played, unsealed

__all__ = ["played"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def foreign(own_cache: Path, played: Played) -> RunDir:
    """A finished run that this machine's launcher has not trained, as far as it knows."""
    run = played.train("--keep", "all")
    shutil.rmtree(own_cache / "trained")
    return run


def test_what_was_trained_here_is_trained_again(played: Played) -> None:
    run = played.train()
    moved = played.project.folder / "elsewhere" / run.path.name
    moved.parent.mkdir()
    shutil.move(run.path, moved)
    done = played.call("verify", str(moved))
    assert (done.status, done.out.splitlines()[-1].partition(":")[0]) == (0, "identical"), done.out + done.err
    assert "trusted_code" not in json.loads(RunDir(Path(done.line("run"))).verification.read_text())


@pytest.mark.parametrize("command", ["verify", "verify --segments", "preflight"])
def test_a_foreign_run_is_not_comparable(foreign: RunDir, played: Played, command: str) -> None:
    """A line says what to do, and nothing is executed."""
    trained = len(played.player.trained)
    name, *words = command.split()
    done = played.call(name, foreign.path.name, *words)
    assert done.status == 3
    assert f"add --trust-its-code {foreign.path.name}" in done.out
    assert len(played.player.trained) == trained


def test_a_foreign_run_is_not_resumed(own_cache: Path, played: Played) -> None:
    played.player.dies = (0, 2)
    run = unsealed(played.train())
    shutil.rmtree(own_cache / "trained")
    done = played.call("resume", run.path.name)
    assert done.status == 2
    assert f"add --trust-its-code {run.path.name}" in done.complaint
    played.player.dies = None
    assert played.call("resume", run.path.name, "--trust-its-code", run.path.name).status == 0


def test_a_named_run_is_trained_and_that_is_recorded(foreign: RunDir, played: Played) -> None:
    done = played.call("verify", foreign.path.name, "--trust-its-code", foreign.path.name)
    assert (done.status, done.out.splitlines()[-1].partition(":")[0]) == (0, "identical"), done.out + done.err
    again = RunDir(Path(done.line("run")))
    assert again.read().origin.trusted_code
    assert json.loads(again.verification.read_text())["trusted_code"] is True


def test_another_name_is_not_enough(foreign: RunDir, played: Played) -> None:
    assert played.call("verify", foreign.path.name, "--trust-its-code", "last").status == 3


def forge(run: RunDir, edit: Callable[[dict[str, Any]], object]) -> Record:
    """The record of whoever writes it himself: with a right checksum."""
    values = json.loads(run.record.read_text())
    edit(values)
    values["recipe_digest"] = str(Digest.of_json(values["recipe"]))
    run.record.unlink()
    body = {name: item for name, item in values.items() if name != "seal"}
    run.record.write_text(json.dumps(with_checksum(body)))
    return run.read()


def test_another_script_under_a_known_recipe_is_not_executed(played: Played) -> None:
    """The note is of all that is executed: a script that was changed, with its digests, has none."""
    run = played.train()
    (run.code / "train.py").write_text("import os\n")
    manifest = b"".join(
        line if b'"train.py"' not in line else line.replace(line[line.index(b"sha256:") + 7 :][:64], b"0" * 64)
        for line in run.code_manifest.read_bytes().splitlines(keepends=True)
    )
    run.code_manifest.write_bytes(manifest)
    tree = str(Digest.of_bytes(manifest))
    record = forge(run, lambda values: values["recipe"]["code"].update(tree=tree))
    with pytest.raises(UntrustedError):
        in_recorded_venv(run, record)


def test_changed_source_is_not_executed_under_its_own_digest(played: Played) -> None:
    run = played.train()
    for path in run.image.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (run.image / "source" / "samebits" / "__init__.py").write_text("import os\n")
    source = str(context_source_digest(run.image))
    record = forge(run, lambda values: values["recipe"]["image"].update(source=source))
    with pytest.raises(UntrustedError):
        in_recorded_venv(run, record)
    # Named, it is executed from a copy that nobody changes any more.
    assert in_recorded_venv(run, record, (record.id,)).setup.trusted_code


def test_the_recipe_decides_about_the_container(example: Record) -> None:
    """Not the environment, which says what it likes."""
    image = replace(example.recipe.image, python="3.13.1", config=None, base=None)
    in_venv = replace(example, recipe=replace(example.recipe, image=image))
    for runtime in ("docker", "venv"):
        environment = replace(example.environment, runtime=runtime)
        assert was_in_container(replace(example, environment=environment))
        assert not was_in_container(replace(in_venv, environment=environment))


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_a_note_that_others_can_write_says_nothing(example: Record, mode: int, tmp_path: Path) -> None:
    trust.note_trained(example.recipe, RunDir(tmp_path))
    assert trust.was_trained_here(example.recipe)
    (note,) = cache_folder("trained").iterdir()
    note.chmod(mode)
    assert not trust.was_trained_here(example.recipe)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"code": "sha256:0"}', b"\xff"])
def test_a_damaged_note_says_nothing(example: Record, content: bytes, tmp_path: Path) -> None:
    trust.note_trained(example.recipe, RunDir(tmp_path))
    (note,) = cache_folder("trained").iterdir()
    note.write_bytes(content)
    assert not trust.was_trained_here(example.recipe)


def test_the_advice_is_one_word_of_a_shell(example: Record) -> None:
    assert trust.advice(replace(example, id="$(touch x)")) == "--trust-its-code '$(touch x)'"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A build context as a run keeps it."""
    folder = tmp_path / "image"
    shutil.copytree(staged_context(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def identity(context: Path) -> ImageIdentity:
    return ImageIdentity(
        lock=Digest.of_file(context / "lock" / "requirements.lock"), source=context_source_digest(context)
    )


def test_what_is_taken_of_a_context(context: Path, tmp_path: Path) -> None:
    recorded = identity(context)
    assert is_installed(recorded)
    (context / "key").symlink_to("/etc/shadow")
    (context / "lock" / "more").write_text("")
    (tmp_path / "copy").mkdir()
    copy_context(context, tmp_path / "copy", recorded)
    names = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith("source/")} == {
        "Dockerfile",
        "image.json",
        "lock/requirements.lock",
    }


def _link(context: Path, name: str) -> None:
    path = context / name
    content = path.read_bytes() if path.is_file() else b""
    path.unlink(missing_ok=True)
    outside = context.parent / "outside"
    outside.write_bytes(content)
    path.symlink_to(outside)


def _pipe(context: Path, name: str) -> None:
    import os

    (context / name).unlink(missing_ok=True)
    os.mkfifo(context / name)


@pytest.mark.parametrize("name", ["Dockerfile", "image.json", "lock/requirements.lock", "source/samebits/__init__.py"])
@pytest.mark.parametrize("kind", [_link, _pipe])
def test_a_context_holds_files_only(
    context: Path, tmp_path: Path, name: str, kind: Callable[[Path, str], None]
) -> None:
    recorded = identity(context)
    kind(context, name)
    (tmp_path / "copy").mkdir()
    with pytest.raises(ImageError, match=r"is incomplete: .*it is a (link|pipe)"):
        copy_context(context, tmp_path / "copy", recorded)


def test_a_context_behind_a_link_is_not_read(context: Path, tmp_path: Path) -> None:
    recorded = identity(context)
    (context / "source").rename(tmp_path / "other")
    (context / "source").symlink_to(tmp_path / "other")
    (tmp_path / "copy").mkdir()
    with pytest.raises(ImageError, match="is incomplete"):
        copy_context(context, tmp_path / "copy", recorded)


def test_the_lock_of_cuda_is_a_part_of_the_lock(context: Path, tmp_path: Path) -> None:
    lock = context_file(GPU.lock).read_bytes()
    (context / "lock" / "requirements.lock").write_bytes(lock)
    (context / "cuda").mkdir()
    (context / "cuda" / "requirements.lock").write_bytes(cuda_lock(lock.decode()).encode())
    (tmp_path / "one").mkdir()
    copy_context(context, tmp_path / "one", identity(context))
    (context / "cuda" / "requirements.lock").write_text("--index-url http://127.0.0.1\nevil==1\n")
    (tmp_path / "other").mkdir()
    with pytest.raises(ImageError, match="is no part of its lock"):
        copy_context(context, tmp_path / "other", identity(context))


def test_a_copy_in_the_cache_is_checked_when_it_is_used(context: Path) -> None:
    recorded = identity(context)
    copy = received_context(context, recorded)
    changed = copy / "source" / "samebits" / "__init__.py"
    changed.write_text("import os\n")
    assert received_context(context, recorded) == copy
    assert changed.read_text() != "import os\n"


@pytest.mark.parametrize(
    ("more", "trusted", "message"),
    [
        ("", False, None),
        ("RUN id\n", True, None),
        ("RUN id\n", False, "wrote the Dockerfile in the run's folder; read it, then add --trust-its-code x"),
        ("RUN --network=host id\n", True, "asks for network or rights"),
        ("RUN --network default id\n", True, "asks for network or rights"),
        ("RUN --security=insecure id\n", True, "asks for network or rights"),
    ],
)
def test_dockerfiles(context: Path, more: str, trusted: bool, message: str | None) -> None:
    path = context / "Dockerfile"
    path.chmod(0o644)
    path.write_text(path.read_text() + more)
    if message is None:
        check_dockerfile(context, trusted=trusted, advice="--trust-its-code x")
        return
    with pytest.raises(UntrustedError, match=message):
        check_dockerfile(context, trusted=trusted, advice="--trust-its-code x")


def test_a_frontend_is_not_pulled(context: Path) -> None:
    path = context / "Dockerfile"
    path.chmod(0o644)
    path.write_text("# syntax=example.org/evil\n" + path.read_text())
    with pytest.raises(UntrustedError, match="asks for network or rights"):
        check_dockerfile(context, trusted=True, advice="")


@pytest.mark.parametrize("kind", [CPU, GPU])
def test_pip_gets_pins_that_were_written_anew(kind: Any) -> None:
    pins = read_lock(context_file(kind.lock))
    text = text_of(pins)
    assert {replace(pin, line=0) for pin in read_lock(text)} == {replace(pin, line=0) for pin in pins}


@pytest.mark.parametrize(
    "option", ["--no-binary :all:", "--index-url http://127.0.0.1", "-e .", "-r /etc/passwd", "--pre", "-f /tmp"]
)
def test_options_in_a_lock_are_refused(option: str) -> None:
    with pytest.raises(InputError, match="is an option"):
        read_lock(f"{option}\nsix==1 --hash=sha256:{'0' * 64}\n")


_COMMIT = {"commit": "ab" * 20, "dirty": False, "changed": 0, "remote": None}


@pytest.mark.parametrize(
    ("what", "edit"),
    [
        ("recipe", lambda values: values["recipe"].update(seed=9)),
        ("recipe", lambda values: values["recipe"]["code"].update(arguments=["--other"])),
        ("id", lambda values: values.update(id="20260101T000000Z-other-00000000")),
        ("start", lambda values: values.update(started="2026-01-01T00:00:00+00:00")),
        ("git commit", lambda values: values["origin"].update(git=_COMMIT)),
    ],
)
def test_a_record_of_another_run_is_refused(
    played: Played, monkeypatch: pytest.MonkeyPatch, what: str, edit: Callable[[dict[str, Any]], object]
) -> None:
    """As a script writes it that trains nothing of its own."""

    def forging(words: tuple[str, ...], *rest: Any, **_: Any) -> int:
        status = played.player(words, *rest)
        forge(RunDir(Path(words[1])), edit)
        return status

    monkeypatch.setattr("samebits.host.launch.venv.run_in_venv", forging)
    done = played.call(*played.project.command()[1:])
    assert done.status == 2
    assert f"was forged: another {what} than planned" in done.err
