"""The only module that talks to Docker: images by digest, and hardened containers."""

import io
import json
import os
import platform
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import docker
from docker.constants import DEFAULT_DATA_CHUNK_SIZE
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, ImageNotFound, create_api_error_from_http_exception
from docker.utils.socket import STDERR, frames_iter
from requests.exceptions import HTTPError, RequestException

from samebits.core.digest import Digest
from samebits.core.environment import DOCKER, PODMAN, EngineInfo
from samebits.core.errors import EngineError, NoEngineError
from samebits.host.console import log_progress
from samebits.host.container_limits import limit_options
from samebits.host.container_request import ContainerRequest, creation_options
from samebits.host.engine_config import SOCKET, is_configured
from samebits.host.engine_gpus import refusal
from samebits.host.engine_users import EngineUsers
from samebits.host.image_archive import manifest_in, write_stream
from samebits.host.podman_service import is_installed, podman_address

_UNANSWERED = (DockerException, RequestException, ValueError, TypeError, LookupError, AttributeError, OSError)
"""A client's configuration may hold anything, and the SDK takes it for what it expects."""

_PODMAN_ENGINE = "Podman Engine"
REQUEST_TIMEOUT = 300  # seconds; removing large images can block the engine for minutes


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image in the engine's store: `id` is what a container runs; `layers` are its diff_ids.

    `digests` are its names by digest, as in `NAME@sha256:…`, with which another engine can pull or find it.
    """

    reference: str
    id: str
    labels: Mapping[str, str]
    layers: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()


class ContainerStartError(EngineError):
    """The runtime's first process died before the container ran; seen now and then on a busy machine."""


class Engine:
    """A connection to the engine that `DOCKER_HOST` or the current Docker context names, or to Podman's service."""

    def __init__(self, runtime: str | None = None) -> None:
        """The engine named `runtime`; without a name Docker, and Podman only where no Docker is configured.

        Raises NoEngineError if it does not answer.
        """
        if runtime is None:
            runtime = PODMAN if not is_configured() and is_installed() else DOCKER
        self._address = podman_address() if runtime == PODMAN else None
        try:
            self._client = _connect(self._address)
            self._version: dict[str, Any] = self._client.version()
        except _UNANSWERED as error:
            where = self._address or os.environ.get("DOCKER_HOST") or f"unix://{SOCKET}"
            raise NoEngineError(
                f"no container engine answers at {where}; start one", configured=is_configured()
            ) from error

    @property
    def runtime(self) -> str:
        """DOCKER or PODMAN: what answers, whatever the socket is named."""
        names = [str(part.get("Name")) for part in self._version.get("Components") or ()]
        return PODMAN if _PODMAN_ENGINE in names else DOCKER

    def describe(self) -> EngineInfo:
        """Name, version, and the settings that decide how images are stored and run."""
        return EngineInfo(
            name=self._name(),
            version=self._version.get("Version"),
            api_version=self._version.get("ApiVersion"),
            storage_driver=self._info.get("Driver"),
            containerd_image_store=self.uses_containerd_store,
            cgroup_version=self._info.get("CgroupVersion"),
            runtime=self._info.get("DefaultRuntime"),
            user_namespace=self._users.namespace,
        )

    def _name(self) -> str:
        # Podman's platform is that of the machine.
        if self.runtime == PODMAN:
            return _PODMAN_ENGINE
        return str(self._version.get("Platform", {}).get("Name") or "Docker Engine")

    @property
    def _users(self) -> EngineUsers:
        return EngineUsers.of(self._info.get("SecurityOptions"))

    def is_here(self) -> bool:
        """Whether containers run on this very kernel: not on another machine, and not in a virtual machine."""
        machine = self._info.get("KernelVersion"), self._info.get("Name")
        local = self._client.api.base_url.startswith("http+docker:")
        return local and machine == (platform.release(), platform.node())

    @cached_property
    def _info(self) -> dict[str, Any]:
        with _engine_errors():
            return dict(self._client.info())

    @property
    def uses_containerd_store(self) -> bool:
        """Whether an image's id is that of its manifest, instead of its configuration."""
        return any("containerd.snapshotter" in str(value) for _, value in self._info.get("DriverStatus") or ())

    def find_image(self, reference: str) -> Image | None:
        """The image with that name, id or digest, or None."""
        with _engine_errors(), suppress(ImageNotFound):
            return _as_image(reference, self._client.images.get(reference))
        return None

    def history(self, image: Image) -> list[str]:
        """The steps that made an image, the last one first."""
        with _engine_errors():
            steps: list[dict[str, Any]] = self._client.api.history(image.id)  # type: ignore[no-untyped-call]
        return [str(step.get("CreatedBy") or "") for step in steps]

    def images_with(self, labels: Mapping[str, str]) -> list[Image]:
        """Every image that has all these labels, sorted by id."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        with _engine_errors():
            found = self._client.images.list(filters={"label": wanted})
        images = (_as_image(min(image.tags, default=str(image.id)), image) for image in found)
        return sorted(images, key=lambda image: image.id)

    def config_digest(self, image: Image) -> Digest:
        """The digest of the image's configuration; it identifies the content, however the layers are compressed."""
        # The classic store uses this digest as the id. The containerd store reports it in an export only.
        if not self.uses_containerd_store:
            return Digest.parse(image.id)
        log_progress(f"reading the configuration digest of {image.reference} (once for this image)")
        with _engine_errors(tarfile.TarError):
            manifest = manifest_in(self._client.api.get_image(image.id))
        if manifest is None:
            raise EngineError(f"the engine exports {image.reference} without a manifest; run `samebits build`")
        return Digest(json.loads(manifest)[0]["Config"].rpartition("/")[2])

    def export(self, images: Sequence[Image], path: Path) -> None:
        """Write images as one tar archive, atomically; an OCI layout if the engine uses the containerd store."""
        write_stream(self.exported(images), path)

    def exported(self, images: Sequence[Image]) -> Iterator[bytes]:
        """The same archive as a stream."""
        # The SDK's own call takes one image, so that the layers which two share would be exported twice.
        api = self._client.api
        url = f"{api.base_url}/v{api.api_version}/images/get"
        names = {"names": [image.reference for image in images]}
        with _engine_errors(), api.get(url, params=names, stream=True, timeout=REQUEST_TIMEOUT) as response:
            try:
                response.raise_for_status()
            except HTTPError as error:
                create_api_error_from_http_exception(error)
            yield from response.iter_content(DEFAULT_DATA_CHUNK_SIZE)

    def read_file(self, image: Image, path: str) -> bytes:
        """One file of an image; the image is not run."""
        with _engine_errors(tarfile.TarError):
            # The engine copies files out of containers only. This one is created, never started.
            container = self._client.containers.create(image.id, network_mode="none", use_config_proxy=False)
            try:
                chunks, _ = container.get_archive(path)
                with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
                    content = archive.extractfile(path.rpartition("/")[2])
                    return content.read() if content is not None else b""
            finally:
                container.remove(force=True)

    def pull(self, reference: str) -> Image:
        """Pull an image that is named by digest; raises EngineError if its registry does not serve it."""
        log_progress(f"pulling {reference}")
        with _engine_errors():
            self._client.images.pull(reference)
        image = self.find_image(reference)
        if image is None:
            raise EngineError(f"the engine pulled {reference} and does not have it; check its registry")
        return image

    def can_pull(self, reference: str, *, seconds: int) -> bool:
        """Whether a registry serves that image; False after `seconds` without an answer."""
        # A connection of its own, because the timeout belongs to the connection.
        with suppress(DockerException, RequestException):
            _connect(self._address, seconds).api.inspect_distribution(reference)  # type: ignore[no-untyped-call]
            return True
        return False

    def load(self, archive: Path | Any) -> str:
        """Load an image archive, or its blocks, and return the image's id; raises EngineError for what is none."""
        opened = archive.open("rb") if isinstance(archive, Path) else nullcontext(archive)
        with _engine_errors(ValueError), opened as content:
            (image,) = self._client.images.load(content)
        return str(image.id)

    def tag(self, identifier: str, name: str) -> None:
        """Give an image a name."""
        with _engine_errors():
            self._client.images.get(identifier).tag(name)

    def remove_image(self, reference: str) -> None:
        """Remove a name, and the image if it has no other name."""
        with suppress(DockerException, RequestException):
            self._client.images.remove(reference)

    @contextmanager
    def container(self, request: ContainerRequest) -> Iterator["Container"]:
        """A created container with its streams attached; it is removed when the block ends, however that happens."""
        with _engine_errors():
            limits = limit_options(self._info.get("MemTotal"))
            options = creation_options(request, self._info, limits=limits, podman=self.runtime == PODMAN)
            options |= self._users.options
            identifier = str(self._client.containers.create(**options).id)
        try:
            with self._attached(identifier) as streams:
                yield Container(self._client, identifier, streams)
        finally:
            with suppress(DockerException, RequestException):  # it has removed itself, or the engine is gone
                self._client.api.remove_container(identifier, force=True)

    def output_of(self, request: ContainerRequest) -> bytes:
        """What a container prints on stdout until it ends."""
        with self.container(request) as container:
            container.start()
            return b"".join(chunk for is_stderr, chunk in container.output() if not is_stderr)

    @contextmanager
    def _attached(self, identifier: str) -> Iterator[Any]:
        """The container's stdin, stdout and stderr as one socket."""
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "logs": 1}
        with _engine_errors():
            attached: Any = self._client.api.attach_socket(identifier, params=params)
        raw = attached._sock  # noqa: SLF001  the SDK wraps it without a public name
        raw.settimeout(None)  # a script may print nothing for hours
        try:
            yield attached
        finally:
            raw.close()
            attached.close()


class Container:
    """A created container that removes itself when it ends, see `Engine.container`.

    It cannot outlive this process: its stdin is a connection that breaks when this process is gone.
    """

    def __init__(self, client: docker.DockerClient, identifier: str, attached: Any) -> None:
        self._client: Any = client
        self._identifier = identifier
        self._attached = attached
        self._result: dict[str, Any] = {}
        self._waiter = threading.Thread(target=self._wait_for_removal, daemon=True)

    def start(self) -> None:
        """Start it; raises EngineError if the engine refuses, ContainerStartError if a retry may help."""
        # The waiter must listen first: a short container may be removed before the call to start returns.
        self._waiter.start()
        with _engine_errors():
            self._client.api.start(self._identifier)

    def _wait_for_removal(self) -> None:
        try:
            self._result = self._client.api.wait(self._identifier, timeout=None, condition="removed")
        except (DockerException, RequestException) as error:
            self._result = {"Error": {"Message": str(error)}}

    def output(self) -> Iterator[tuple[bool, bytes]]:
        """What it prints until it ends, as pairs (whether it is stderr, bytes)."""
        with _engine_errors():
            for stream, chunk in frames_iter(self._attached, tty=False):  # type: ignore[no-untyped-call]
                yield stream == STDERR, chunk

    def kill(self, signal_number: int) -> None:
        """Send a signal to its first process."""
        with _engine_errors():
            self._client.api.kill(self._identifier, signal_number)

    def exit_status(self) -> int:
        """Wait for its end; raises EngineError if the engine went away first."""
        self._waiter.join(REQUEST_TIMEOUT)
        if "StatusCode" not in self._result:
            raise EngineError("the container engine went away while the script ran; start it and run again")
        return int(self._result["StatusCode"])


def _connect(address: str | None, seconds: int = REQUEST_TIMEOUT) -> docker.DockerClient:
    """Connect to an address, else to `DOCKER_HOST`, else to the current Docker context, which the SDK ignores."""
    if address is not None:
        return docker.DockerClient(base_url=address, timeout=seconds)
    # Docker Desktop, Colima and rootless engines listen elsewhere, and announce it by a context.
    context = None if os.environ.get("DOCKER_HOST") else ContextAPI.get_current_context()
    if context is None or context.name == "default":
        return docker.from_env(timeout=seconds)
    return docker.DockerClient(base_url=context.Host, tls=context.TLSConfig or False, timeout=seconds)


def _as_image(reference: str, found: Any) -> Image:
    layers = tuple(found.attrs.get("RootFS", {}).get("Layers") or ())
    digests = tuple(sorted(found.attrs.get("RepoDigests") or ()))
    return Image(reference=reference, id=str(found.id), labels=dict(found.labels), layers=layers, digests=digests)


@contextmanager
def _engine_errors(*also: type[Exception]) -> Iterator[None]:
    """Raise what the SDK raises (and the types in `also`) as an EngineError."""
    try:
        yield
    except (DockerException, RequestException, *also) as error:  # type: ignore[misc]  # mypy knows no such tuple
        raise _as_engine_error(error) from error


def _as_engine_error(error: Exception) -> EngineError:
    """The engine's refusal in one line, with what to do if that is known."""
    text = error.explanation if isinstance(error, APIError) and error.explanation else str(error)
    line = " ".join(str(text).split())
    # runc reports this when its helper dies under load, before anything of the user's runs.
    if "read init-p: connection reset" in line:
        return ContainerStartError(f"the container engine refused: {line}")
    if without_gpu := refusal(line):
        return EngineError(without_gpu)
    if isinstance(error, (APIError, ImageNotFound)):
        return EngineError(f"the container engine refused: {line}")
    return EngineError(f"the container engine went away ({line}); start it and run again")
