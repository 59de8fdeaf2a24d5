"""The one door to Docker: images by digest, hardened containers, their output and their end."""

import io
import json
import os
import signal
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, ImageNotFound
from docker.types import DeviceRequest, Mount
from docker.utils.socket import STDERR, frames_iter
from requests.exceptions import RequestException

from samebits.core.digest import Digest
from samebits.core.environment import EngineInfo
from samebits.core.errors import EngineError, NoEngineError, Terminated
from samebits.core.jsonio import storage_error
from samebits.host.console import log
from samebits.host.subprocesses import OURS, Streams

STOP_SECONDS = 15  # seconds that a stopped container has to seal its record
_START_ATTEMPTS = 3  # times that a container is started whose runtime fails before anything of it has run
REQUEST_TIMEOUT = (
    300  # seconds that the engine has to answer one request: removing large images can block it for minutes
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image as the engine knows it: `id` is what it runs, whichever store it is in; `layers` are their diff_ids."""

    reference: str
    id: str
    labels: Mapping[str, str]
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerRequest:
    """One container, as it will be started: `mounts` are (host path, container path, read-only).

    Of the `environment`, what is None is not there, although the image has it.
    """

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str | None]
    mounts: tuple[tuple[Path, str, bool], ...]
    user: str
    gpus: str | None = None


class Engine:
    """A connection to the engine that `DOCKER_HOST` or the current Docker context names."""

    def __init__(self) -> None:
        """Raise NoEngineError where none answers."""
        try:
            self._client = _connect()
            self._version: dict[str, Any] = self._client.version()
        except (DockerException, RequestException, ValueError) as error:  # ValueError: a DOCKER_HOST that is no address
            where = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
            raise NoEngineError(f"no container engine answers at {where}; start one, or use --runtime venv") from error

    def describe(self) -> EngineInfo:
        """Name, version, and what decides how images are stored and run."""
        info = self._info()
        return EngineInfo(
            name=self._version.get("Platform", {}).get("Name") or "Docker Engine",
            version=self._version.get("Version"),
            api_version=self._version.get("ApiVersion"),
            storage_driver=info.get("Driver"),
            containerd_image_store=self._containerd_store(info),
            cgroup_version=info.get("CgroupVersion"),
            runtime=info.get("DefaultRuntime"),
        )

    def _info(self) -> dict[str, Any]:
        try:
            return dict(self._client.info())
        except (DockerException, RequestException) as error:
            raise _went_wrong(error) from error

    def find_image(self, reference: str) -> Image | None:
        """The image of that name, id or digest, if the engine has it."""
        try:
            found = self._client.images.get(reference)
        except ImageNotFound:
            return None
        except (DockerException, RequestException) as error:
            raise _went_wrong(error) from error
        return _as_image(reference, found)

    def images_with(self, labels: Mapping[str, str]) -> list[Image]:
        """Every image that has all these labels, sorted by id."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        try:
            found = self._client.images.list(filters={"label": wanted})
        except (DockerException, RequestException) as error:
            raise _went_wrong(error) from error
        images = (_as_image(min(image.tags, default=str(image.id)), image) for image in found)
        return sorted(images, key=lambda image: image.id)

    def config_digest(self, image: Image) -> Digest:
        """The digest of the image's configuration, which names its content whatever its compression.

        The classic store uses it as the id. The containerd store does not tell it: then it is read from an export.
        """
        if not self._containerd_store(self._info()):
            return Digest.parse(image.id)
        log(f"reading the configuration digest of {image.reference} (once for this image)")
        try:
            export: Any = _Stream(self._client.api.get_image(image.id))
            with tarfile.open(fileobj=export, mode="r|") as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.name == "manifest.json" else None
                    if content is not None:
                        return Digest(json.loads(content.read())[0]["Config"].rpartition("/")[2])
        except (DockerException, RequestException, tarfile.TarError) as error:
            raise _went_wrong(error) from error
        raise EngineError(f"the engine exports {image.reference} without a manifest; rebuild it with `samebits build`")

    def export(self, image: Image, path: Path) -> None:
        """Write an image as an archive (an OCI layout where the engine's store is one), atomically."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with draft.open("wb") as file:
                for chunk in self._client.api.get_image(image.reference):
                    file.write(chunk)
            draft.rename(path)
        except (DockerException, RequestException) as error:
            raise _went_wrong(error) from error
        except OSError as error:
            raise storage_error(error, path) from error
        finally:
            draft.unlink(missing_ok=True)

    def read_file(self, image: Image, path: str) -> bytes:
        """One file of an image, which is not run for it."""
        try:
            container = self._client.containers.create(image.id, network_mode="none")
            try:
                chunks, _ = container.get_archive(path)
                with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
                    content = archive.extractfile(path.rpartition("/")[2])
                    return content.read() if content is not None else b""
            finally:
                container.remove(force=True)
        except (DockerException, RequestException, tarfile.TarError) as error:
            raise _went_wrong(error) from error

    def pull(self, reference: str) -> Image:
        """Fetch an image that is named by digest; raises EngineError where its registry does not give it."""
        log(f"pulling {reference}")
        try:
            self._client.images.pull(reference)
        except (DockerException, RequestException) as error:
            raise _went_wrong(error) from error
        image = self.find_image(reference)
        if image is None:
            raise EngineError(f"the engine pulled {reference} and does not have it; check its registry")
        return image

    def can_pull(self, reference: str, *, seconds: int) -> bool:
        """Whether a registry tells the engine of that image, asked for at most so many seconds."""
        try:
            _connect(seconds).api.inspect_distribution(reference)  # type: ignore[no-untyped-call]
            return True
        except (DockerException, RequestException):
            return False

    def load(self, path: Path) -> str:
        """Take an archive in and return its image's id; raises EngineError where the engine cannot read it."""
        try:
            with path.open("rb") as file:
                (image,) = self._client.images.load(file)
        except (DockerException, RequestException, ValueError) as error:
            raise _went_wrong(error) from error
        return str(image.id)

    def tag(self, identifier: str, name: str) -> None:
        """Give an image a name."""
        try:
            self._client.images.get(identifier).tag(name)
        except (DockerException, RequestException) as error:
            raise _went_wrong(error) from error

    def remove_image(self, reference: str) -> None:
        """Forget a name; what no other name holds is removed."""
        with suppress(DockerException, RequestException):
            self._client.images.remove(reference)

    def run(self, request: ContainerRequest, streams: Streams = OURS) -> int:
        """Run a container to its end with its output passed through, and return its exit status.

        The container ends with us: its standard input is a line that breaks when this process is gone. Ctrl-C and
        SIGTERM are passed on and raised again once it has ended. Raises EngineError where it cannot be started, or the
        engine goes away.
        """
        for _ in range(_START_ATTEMPTS - 1):
            with suppress(_NotStartedError):
                return self._run_once(request, streams)
            log("the container's runtime lost its first process before it ran; starting it again")
        return self._run_once(request, streams)

    def _run_once(self, request: ContainerRequest, streams: Streams) -> int:
        try:
            with self._container(request) as (identifier, attached):
                ended = _Ending(self._client, identifier)
                self._client.api.start(identifier)
                self._pass_through(identifier, attached, streams)
                return ended.status()
        except (DockerException, RequestException) as error:
            raise _went_wrong(error) from error

    @contextmanager
    def _container(self, request: ContainerRequest) -> Iterator[tuple[str, Any]]:
        """A created container with its streams attached; it is gone afterwards, however this ends."""
        api = self._client.api
        identifier = str(self._client.containers.create(**_creation(request)).id)
        try:
            attached = api.attach_socket(
                identifier, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "logs": 1}
            )
            raw = attached._sock  # noqa: SLF001  the SDK wraps it without a public name
            raw.settimeout(None)  # a script may be silent for hours
            try:
                yield identifier, attached
            finally:
                raw.close()
                attached.close()
        finally:
            with suppress(DockerException, RequestException):  # it has removed itself, or there is no engine to ask
                api.remove_container(identifier, force=True)

    def _pass_through(self, identifier: str, attached: Any, streams: Streams) -> None:
        """Copy output until it ends."""
        try:
            _copy_output(attached, streams)
        except (KeyboardInterrupt, Terminated) as stop:
            log("stopping; the record is being sealed")
            number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
            self._stop(identifier, attached, streams, number)
            raise

    def _stop(self, identifier: str, attached: Any, streams: Streams, number: int) -> None:
        """Pass a signal on and show what the container still says; kill it after a while, or on a second Ctrl-C."""
        api = self._client.api
        killer = threading.Timer(STOP_SECONDS, lambda: api.kill(identifier, signal.SIGKILL))
        killer.daemon = True
        killer.start()
        try:
            api.kill(identifier, number)
            _copy_output(attached, streams)
        except (KeyboardInterrupt, Terminated, DockerException, RequestException):
            pass  # removed on the way out
        finally:
            killer.cancel()

    def _containerd_store(self, info: Mapping[str, Any]) -> bool:
        return any("containerd.snapshotter" in str(value) for _, value in info.get("DriverStatus") or ())


def _as_image(reference: str, found: Any) -> Image:
    layers = tuple(found.attrs.get("RootFS", {}).get("Layers") or ())
    return Image(reference=reference, id=str(found.id), labels=dict(found.labels), layers=layers)


def _connect(seconds: int = REQUEST_TIMEOUT) -> docker.DockerClient:
    """To `DOCKER_HOST`, else to the current Docker context, which the SDK does not look at by itself."""
    context = None if os.environ.get("DOCKER_HOST") else ContextAPI.get_current_context()
    if context is None or context.name == "default":
        return docker.from_env(timeout=seconds)
    return docker.DockerClient(base_url=context.Host, tls=context.TLSConfig or False, timeout=seconds)


class _NotStartedError(EngineError):
    """The runtime's first process died while the container was being made: seen now and then on a busy machine."""


class _Ending:
    """Waits for a container that removes itself; must be listening before it starts."""

    def __init__(self, client: Any, identifier: str) -> None:
        self._answer: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._wait, args=(client, identifier), daemon=True)
        self._thread.start()

    def _wait(self, client: Any, identifier: str) -> None:
        try:
            self._answer = client.api.wait(identifier, timeout=None, condition="removed")
        except (DockerException, RequestException) as error:
            self._answer = {"Error": {"Message": str(error)}}

    def status(self) -> int:
        """The exit status; raises EngineError where the engine went away first."""
        self._thread.join(REQUEST_TIMEOUT)
        if "StatusCode" not in self._answer:
            raise EngineError("the container engine went away while the script ran; start it and run again")
        return int(self._answer["StatusCode"])


class _Stream:
    """The engine's chunks as a file that tarfile can read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        parts = [self._left]
        length = len(self._left)
        while length < size and (chunk := next(self._chunks, b"")):
            parts.append(chunk)
            length += len(chunk)
        joined = b"".join(parts)
        self._left = joined[size:]
        return joined[:size]


def _creation(request: ContainerRequest) -> dict[str, Any]:
    """The hardened container: no network, no capability, nothing writable but the run's folder and /tmp."""
    mounts = [
        Mount(target=target, source=str(source), type="bind", read_only=read_only)
        for source, target, read_only in request.mounts
    ]
    devices = []
    if request.gpus is not None:
        count = -1 if request.gpus == "all" else int(request.gpus)
        devices = [DeviceRequest(count=count, capabilities=[["gpu"]])]
    return {
        "image": request.image,
        "command": list(request.command),
        "environment": dict(request.environment),
        "mounts": mounts,
        "user": request.user,
        "device_requests": devices,
        "network_mode": "none",
        "read_only": True,
        "tmpfs": {"/tmp": "mode=1777"},  # noqa: S108  inside the container
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "init": True,
        "stdin_open": True,
        "auto_remove": True,
        "labels": {"samebits": "run"},
    }


def _copy_output(attached: Any, streams: Streams) -> None:
    """The container's two streams, as they come."""
    broken = set()
    for stream, chunk in frames_iter(attached, tty=False):  # type: ignore[no-untyped-call]  # the SDK's own helper
        target = (streams.err or sys.stderr.buffer) if stream == STDERR else (streams.out or sys.stdout.buffer)
        if target not in broken:
            try:
                target.write(chunk)
                target.flush()
            except BrokenPipeError:  # nobody reads any more; the training goes on
                broken.add(target)


def _went_wrong(error: Exception) -> EngineError:
    """An engine's refusal in one line, with what to do where that is known."""
    text = error.explanation if isinstance(error, APIError) and error.explanation else str(error)
    line = " ".join(str(text).split())
    if "read init-p: connection reset" in line:
        return _NotStartedError(f"the container engine refused: {line}")
    if "could not select device driver" in line or "nvidia" in line.lower():
        return EngineError(
            f"the engine has no GPU to give ({line}); install the NVIDIA container toolkit, or drop --gpus"
        )
    if isinstance(error, (APIError, ImageNotFound)):
        return EngineError(f"the container engine refused: {line}")
    return EngineError(f"the container engine went away ({line}); start it and run again")
