"""Podman in Docker's place, without it: what is asked of it, and what happens where it is missing or has no image."""

import resource
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from samebits.core.environment import DOCKER, PODMAN
from samebits.core.errors import EngineError, ImageError, InputError, NoEngineError
from samebits.core.record import Record
from samebits.core.run_config import RunConfig
from samebits.host import docker, engine_config, podman_service
from samebits.host.container_request import ContainerRequest, creation_options
from samebits.host.docker import Engine, Image
from samebits.host.image import identify
from samebits.host.image.build_context import CPU
from samebits.host.launch import runtime

_REQUEST = ContainerRequest(image="i", command=(), environment={}, mounts=(), user="1:1")
_VERSION = {
    "Platform": {"Name": "linux/amd64/debian-12"},
    "Components": [{"Name": "Podman Engine"}],
    "Version": "4.3.1",
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine without Docker, whose programs are in this folder."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    monkeypatch.setattr(engine_config, "SOCKET", str(tmp_path / "docker.sock"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(podman_service, "PROGRAM", "its-podman")
    podman_service.podman_address.cache_clear()
    yield tmp_path
    podman_service.podman_address.cache_clear()


def program(path: Path, text: str) -> None:
    (path / "its-podman").write_text(f"#!/bin/sh\n{text}\n")
    (path / "its-podman").chmod(0o755)


@pytest.mark.usefixtures("path")
def test_podman_is_not_installed() -> None:
    with pytest.raises(NoEngineError, match=r"^Podman is not installed; install it, or choose another --runtime$"):
        Engine(PODMAN)


def test_podman_does_not_start(path: Path) -> None:
    program(path, "echo first; echo 'cannot set up storage' >&2; exit 125")
    with pytest.raises(NoEngineError, match=r"^Podman does not start: cannot set up storage$"):
        Engine(PODMAN)


def test_a_client_configuration_that_is_missing_is_kept_from_it(path: Path) -> None:
    program(path, 'echo "configuration: $DOCKER_CONFIG"; exit 1')
    with pytest.raises(NoEngineError, match=r"configuration:$"):
        Engine(PODMAN)
    (path / "none").mkdir()
    (path / "none" / "config.json").write_text("{}")
    with pytest.raises(NoEngineError, match=rf"configuration: {path}/none$"):
        Engine(PODMAN)


def test_podman_is_known_by_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the socket is named: DOCKER_HOST may be Podman's."""
    info = {"SecurityOptions": ["name=seccomp,profile=default"], "Driver": "overlay", "DefaultRuntime": "crun"}
    client = SimpleNamespace(version=lambda: _VERSION, info=lambda: info)
    monkeypatch.setattr(docker, "_connect", lambda *_: client)
    engine = Engine(DOCKER)
    assert (engine.runtime, engine.describe().name, engine.describe().runtime) == (PODMAN, "Podman Engine", "crun")
    client.version = lambda: _VERSION | {"Components": [{"Name": "Engine"}]}
    assert Engine(DOCKER).runtime == DOCKER


def test_podman_only_where_no_docker_is_configured(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def connect(address: str | None) -> Any:
        asked.append(address)
        return SimpleNamespace(version=dict)

    monkeypatch.setattr(docker, "podman_address", lambda: "unix:///podman")
    monkeypatch.setattr(docker, "_connect", connect)
    Engine()
    program(path, "")
    Engine()
    monkeypatch.setenv("DOCKER_HOST", "unix:///docker")
    Engine()
    assert asked == [None, "unix:///podman", None]


def test_limits_that_this_process_may_set() -> None:
    """Podman's own are higher than a process without capabilities may set."""
    limits = {item["Name"]: item for item in creation_options(_REQUEST, podman=True)["ulimits"]}
    assert limits["core"] == {"Name": "core", "Soft": 0, "Hard": 0}
    assert 0 < limits["nofile"]["Soft"] <= limits["nofile"]["Hard"]
    assert limits["nofile"]["Hard"] == min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1 << 20)
    assert 0 < limits["nproc"]["Hard"] <= int(Path("/proc/sys/kernel/pid_max").read_text())
    assert [item["Name"] for item in creation_options(_REQUEST)["ulimits"]] == ["core"]


class Store:
    """An engine with some images, which pulls what is asked for."""

    def __init__(self, kind: str, *images: Image) -> None:
        self.runtime = kind
        self.images = list(images)
        self.pulled: list[str] = []

    def find_image(self, reference: str) -> Image | None:
        return next((image for image in self.images if image.reference == reference), None)

    def pull(self, reference: str) -> None:
        self.pulled.append(reference)


def test_podman_builds_nothing() -> None:
    store: Any = Store(PODMAN)
    advice = r"^Podman has no image samebits:cpu, and does not build it; build it with Docker and move it with `docker"
    with pytest.raises(ImageError, match=advice):
        identify.find_or_build(store, CPU, None)
    store.images.append(Image(reference="samebits:cpu", id="sha256:0", labels={"samebits.lock": "another"}))
    with pytest.raises(ImageError, match="an image of another lock as samebits:cpu, and does not build it"):
        identify.find_or_build(store, CPU, None)


def test_an_image_is_pulled_by_digest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identify, "identify", lambda _engine, reference, _kind: reference)
    store: Any = Store(PODMAN)
    for reference in ("here/samebits:1", "here/samebits@sha256:" + "0" * 64):
        found: Any = identify.find_or_build(store, CPU, reference)
        assert found == reference
    assert store.pulled == ["here/samebits@sha256:" + "0" * 64]


def test_the_wanted_image_is_taken_under_any_name(example: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identify, "identify", lambda _engine, reference, _kind: reference)
    found = Image(reference="elsewhere:1", id="sha256:0", labels={})
    monkeypatch.setattr(identify, "find_recorded", lambda *_: found)
    store: Any = Store(DOCKER)
    chosen: Any = identify.find_or_build(store, CPU, "samebits:mine", example.recipe.image)
    assert chosen == "elsewhere:1"


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception | None]:
    """What each engine refuses, by its kind. Apptainer is not there."""
    monkeypatch.setenv("PATH", "/nowhere")
    refused: dict[str, Exception | None] = {DOCKER: None, PODMAN: None}

    def connect(kind: str) -> Any:
        error = refused[kind]
        if error is not None:
            raise error
        return SimpleNamespace(runtime=kind)

    monkeypatch.setattr(docker, "Engine", connect)
    monkeypatch.setattr(identify, "find_or_build", lambda *_: (None, None))
    monkeypatch.setattr(runtime, "_engine_runtime", lambda engine, *_: engine.runtime)
    return refused


@pytest.mark.parametrize(
    ("asked", "without", "expected"),
    [
        ("auto", (), DOCKER),
        ("container", (), DOCKER),
        ("container", (DOCKER,), PODMAN),
        ("podman", (DOCKER,), PODMAN),
        ("podman", (), PODMAN),
        ("docker", (PODMAN,), DOCKER),
    ],
)
def test_the_first_engine_that_has_the_image(
    engines: dict[str, Exception | None], asked: str, without: tuple[str, ...], expected: str
) -> None:
    engines.update({kind: ImageError("no image") for kind in without})
    chosen: Any = runtime.choose_runtime(RunConfig(script=Path("train.py"), runtime=asked))
    assert chosen == expected


def test_no_engine_has_it(engines: dict[str, Exception | None]) -> None:
    engines.update({DOCKER: NoEngineError("none answers", configured=False), PODMAN: EngineError("no such image")})
    spec = RunConfig(script=Path("train.py"), runtime="container")
    both = (
        r"^no container engine can run the image: docker: none answers; podman: no such image; apptainer:"
        r" Apptainer is not installed, or use --runtime venv$"
    )
    with pytest.raises(NoEngineError, match=both):
        runtime.choose_runtime(spec)
    # One that is named stands alone.
    with pytest.raises(EngineError, match=r"^no such image$"):
        runtime.choose_runtime(replace(spec, runtime="podman"))


@pytest.mark.parametrize("name", ["data,source=/root/.ssh", "x,ro=false", 'x"', "x\ny", "x\ry"])
def test_a_name_that_podman_reads_as_options(tmp_path: Path, name: str) -> None:
    """Of two `source` in one mount the last would count: any folder of the user for a project that names its data."""
    for mount in ((tmp_path / name, "/data", True), (tmp_path, f"/run/{name}", False)):
        request = replace(_REQUEST, mounts=(mount,))
        with pytest.raises(InputError, match=r"^Podman cannot mount .*; rename it, or use Docker$"):
            creation_options(request, podman=True)
        assert creation_options(request)["mounts"][0]["Source"] == str(mount[0])


def test_what_podman_would_leave_writable_or_executable() -> None:
    limits = {"tmpfs": {"/tmp": "mode=1777"}}
    assert creation_options(_REQUEST, limits=limits)["tmpfs"] == limits["tmpfs"]
    made = creation_options(_REQUEST, limits=limits, podman=True)["tmpfs"]
    found = {path: options.split(",") for path, options in made.items()}
    assert found["/tmp"] == ["mode=1777", "noexec", "nosuid", "nodev"]
    assert found["/run"] == found["/var/tmp"] == ["ro", "noexec", "nosuid", "nodev", "size=4k"]


def test_the_service_is_waited_for_until_it_listens(path: Path) -> None:
    """The socket is there before anybody listens at it."""
    program(
        path,
        "exec python3 -c 'import socket, sys, time; s = socket.socket(socket.AF_UNIX);"
        ' s.bind(sys.argv[1].removeprefix("unix://")); time.sleep(0.5); s.listen(); time.sleep(30)\' "$4"',
    )
    address = podman_service.podman_address().removeprefix("unix://")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
