"""Which engine of a machine runs a recorded image: the first that has it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from samebits.core.environment import DOCKER, PODMAN
from samebits.core.errors import EngineError, NoEngineError
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host import podman_service
from samebits.host.rerun import recorded_image
from samebits.host.rerun.recorded_image import find_image, provide_image

APPTAINER = "apptainer"


class Machine:
    """What is installed and answers, and which of it has the image."""

    def __init__(self) -> None:
        self.has: set[str] = set()
        self.answers = {DOCKER, PODMAN}
        self.first = DOCKER
        self.refuses: set[str] = set()

    def engine(self, kind: str | None = None) -> Any:
        kind = kind or self.first
        if kind not in self.answers:
            raise NoEngineError(f"no {kind}")
        return SimpleNamespace(runtime=kind)

    def find(self, engine: Any, _: object) -> Any:
        if engine.runtime in self.refuses:
            raise EngineError("refused")
        return SimpleNamespace(reference=engine.runtime) if engine.runtime in self.has else None

    def unpacked(self, _: object) -> Any:
        return (SimpleNamespace(reference=APPTAINER), None) if APPTAINER in self.has else None


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(recorded_image, "Engine", made.engine)
    monkeypatch.setattr(recorded_image, "find_recorded", made.find)
    monkeypatch.setattr(recorded_image, "in_recorded_image", lambda *_: None)
    monkeypatch.setattr(recorded_image, "recorded_in_apptainer", made.unpacked)
    monkeypatch.setattr(podman_service, "is_installed", lambda: PODMAN in made.answers)
    built = SimpleNamespace(reference="built")
    monkeypatch.setattr(recorded_image, "provide_recorded", lambda *_, **__: built)
    return made


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({DOCKER, PODMAN, APPTAINER}, DOCKER),
        ({PODMAN, APPTAINER}, PODMAN),
        ({APPTAINER}, APPTAINER),
        (set(), "built"),
    ],
)
def test_the_first_that_has_it(machine: Machine, example: Record, has: set[str], expected: str) -> None:
    machine.has = has
    assert provide_image(RunDir(Path()), example).reference == expected
    found = find_image(example)
    assert (found and found.reference) == (None if expected == "built" else expected)


def test_podman_refuses(machine: Machine, example: Record) -> None:
    machine.has, machine.refuses = {APPTAINER}, {PODMAN}
    assert provide_image(RunDir(Path()), example).reference == APPTAINER


def test_docker_refuses(machine: Machine, example: Record) -> None:
    machine.has, machine.refuses = {APPTAINER}, {DOCKER}
    with pytest.raises(EngineError, match="refused"):
        find_image(example)


def test_no_engine_answers(machine: Machine, example: Record) -> None:
    """An unpacked image needs none. Docker, where it is meant to be, is not replaced by Podman."""
    machine.answers, machine.has = {PODMAN}, {PODMAN}
    with pytest.raises(NoEngineError, match="no docker"):
        find_image(example)
    machine.has = {APPTAINER}
    found = find_image(example)
    assert found is not None
    assert found.reference == APPTAINER


def test_podman_alone(machine: Machine, example: Record) -> None:
    machine.answers, machine.first, machine.has = {PODMAN}, PODMAN, {PODMAN}
    found = find_image(example)
    assert found is not None
    assert found.reference == PODMAN
