"""Wheels that were built from source once: kept beside the lock, pinned by their hash, and given to each run."""

from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.run_config import RunConfig
from samebits.host.image import built_wheels
from samebits.host.image.build_context import CPU, WHEELS_PATH, context_file, write_context
from samebits.host.image.built_wheels import as_pin, build_wheel, pin_built, wheels_of
from samebits.host.image.lockfile import read_lock
from samebits.host.image.project_lock import project_kind
from samebits.host.image.requirements import read_requirements
from samebits.host.image.wheelhouse import prepare_wheelhouse
from samebits.host.interpreters import this_interpreter

_COMMIT = "a" * 40
_REPOSITORY = f"git+https://example.org/tiny.git@{_COMMIT}"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock of two packages, both with a hash of an index."""
    path = tmp_path / "requirements.lock"
    hashes = f"    --hash=sha256:{'1' * 64} \\\n    --hash=sha256:{'2' * 64}\n"
    pins = (f"{name}==1.0 \\\n{hashes}" for name in ("other", "tiny"))
    path.write_text("".join(f"{pin}    # via -r requirements.in\n" for pin in pins))
    return path


@pytest.fixture
def wheel(lock: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel that pip has built from a repository."""

    def run_tool(command: list[str], **_: object) -> str:
        assert ("--no-deps" in command, command[-1]) == (True, f"tiny @ {_REPOSITORY}")
        (Path(command[command.index("--wheel-dir") + 1]) / "tiny-1.0-py3-none-any.whl").write_bytes(b"a wheel")
        return ""

    monkeypatch.setattr(built_wheels, "run_tool", run_tool)
    (lock.parent / "requirements.in").write_text(f"tiny @ {_REPOSITORY}\n")
    (requirement,) = read_requirements(lock.parent / "requirements.in").listed
    return build_wheel(requirement, lock, this_interpreter())


def test_a_kept_wheel_is_the_only_one_that_fits(lock: Path, wheel: Path) -> None:
    pins = {pin.name: pin for pin in read_lock(pin_built(lock.read_text(), lock))}
    assert pins["tiny"].hashes == {Digest.of_file(wheel)}
    assert len(pins["other"].hashes) == 2
    assert wheels_of(lock, pins.values()) == (wheel,)
    assert wheels_of(lock, [pins["other"]]) == (), "a wheel that no lock pins goes into no image"


@pytest.mark.usefixtures("wheel")
def test_a_repository_counts_as_the_version_of_its_wheel(lock: Path) -> None:
    (requirement,) = read_requirements(lock.parent / "requirements.in").listed
    assert str(as_pin(requirement, lock)) == "tiny==1.0"
    (lock.parent / "requirements.in").write_text(f"tiny @ {_REPOSITORY.replace('a' * 40, 'b' * 40)}\n")
    (requirement,) = read_requirements(lock.parent / "requirements.in").listed
    with pytest.raises(InputError, match="is not built yet; `samebits lock --build tiny` builds and keeps it"):
        as_pin(requirement, lock)


def test_each_run_has_the_wheel(lock: Path, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build context holds it, and the wheelhouse takes it from there: no index has it."""
    text = pin_built(lock.read_text(), lock)
    lock.write_text(text[text.index("tiny==") :] + context_file(CPU.lock).read_text())
    (lock.parent / "requirements.in").unlink()
    kind = project_kind(RunConfig(script=lock.parent / "train.py"))
    assert kind.project.wheels == (wheel,)
    context = tmp_path / "context"
    context.mkdir()
    write_context(kind, context, b"{}")
    assert (context / WHEELS_PATH / wheel.name).read_bytes() == b"a wheel"

    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    folder = prepare_wheelhouse(context / "packages" / "requirements.lock", offline=True)
    assert [path.name for path in folder.iterdir()] == [wheel.name]


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    source = tmp_path / "requirements.in"
    for url in ("git+https://example.org/tiny.git", "git+https://example.org/tiny.git@main"):
        source.write_text(f"tiny @ {url}\n")
        with pytest.raises(InputError, match=r"^\S+:1: tiny comes from a repository without a commit; pin it, as in"):
            read_requirements(source)


@pytest.mark.usefixtures("wheel")
def test_a_file_that_is_not_named_like_a_wheel(lock: Path) -> None:
    """One line names it, whichever command comes upon it."""
    (requirement,) = read_requirements(lock.parent / "requirements.in").listed
    (lock.parent / "wheels" / "copy of tiny.whl").touch()
    for use in (
        lambda: pin_built(lock.read_text(), lock),
        lambda: as_pin(requirement, lock),
        lambda: build_wheel(requirement, lock, this_interpreter()),
    ):
        with pytest.raises(InputError, match=r"copy of tiny\.whl is not named like a wheel: .*; remove it$"):
            use()
