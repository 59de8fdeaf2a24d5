"""Commands that know Docker only: one line says what to do where there is none, and for another `--runtime`."""

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from samebits.core.errors import ImageError, InputError
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host.capsule import gather
from samebits.host.cli.parser import main
from samebits.host.image.build import BuildPlan, build_from_context
from support.command import EXAMPLE

# The SDK leaves the socket open with which it reached nobody.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own on a machine without Docker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", NO_DOCKER)
    yield
    gc.collect()


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The last line of a command that ends with status 2."""
    assert main(words) == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("samebits: ")


NO_DOCKER = "unix:///nonexistent/docker.sock"
NOBODY = f"no container engine answers at {NO_DOCKER}"
BUILD = (
    "only Docker builds images: build where it is, then move the image here with `docker save`, or push it and name it:"
    " --image NAME@sha256:..."
)
REBUILD = "only Docker builds images: copy the run to a machine that has it, and rebuild it there"
ARCHIVE = "only Docker builds images: archive their base where it is"
GC = "gc lists images of Docker and Apptainer: drop --runtime, and remove those of Podman with `podman rmi`"
PACK = (
    "images are packed from Docker or Podman: pack where the image is, or leave it out with --without image"
    " --without base"
)


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (("build",), BUILD),
        (("build", "--check"), BUILD),
        (("rebuild", "run"), REBUILD),
        (("archive-base",), ARCHIVE),
        (("gc", "--dry-run"), GC),
        (("pack", "run"), PACK),
    ],
)
def test_another_runtime(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], instead: str) -> None:
    for kind in ("apptainer", "podman", "venv"):
        assert complaint(capsys, *words, "--runtime", kind) == instead


@pytest.mark.parametrize(
    ("words", "instead"),
    [(("build",), BUILD), (("build", "--runtime", "docker"), BUILD), (("rebuild", "run"), REBUILD)],
)
def test_without_docker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], instead: str
) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(EXAMPLE, tmp_path / "run" / "record.json")
    assert complaint(capsys, *words) == f"{NOBODY}; {instead}"


def test_a_capsule_without_docker(tmp_path: Path, example: Record) -> None:
    with pytest.raises(InputError) as found:
        gather._exported(["image"], RunDir(tmp_path), example, tmp_path / "x.tar", None)
    assert str(found.value) == f"{NOBODY}; start one, or leave images out with --without image --without base"


def test_podman_builds_nothing(tmp_path: Path) -> None:
    """Neither does a command that would rebuild a missing image."""

    class Podman:
        runtime = "podman"

    plan = BuildPlan.__new__(BuildPlan)
    object.__setattr__(plan, "tag", "samebits:x")
    with pytest.raises(ImageError, match=r"^Podman builds no samebits:x: only Docker does; build there, and load the"):
        build_from_context(Podman(), plan, tmp_path)  # type: ignore[arg-type]
