"""What a container is started with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerRequest:
    """One container to start: `mounts` are (host path, container path, read-only); a variable of None is removed."""

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str | None]
    mounts: tuple[tuple[Path, str, bool], ...]
    user: str
    gpus: str | None = None
    network: str = "none"
    entrypoint: tuple[str, ...] | None = None  # None: the image's own
    watches: bool = False
    """Whether its first process watches the others, so that nothing in the container can end or stop the watching."""
