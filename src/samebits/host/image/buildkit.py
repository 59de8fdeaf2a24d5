"""Choose the BuildKit for a build: samebits's own, pinned by digest, if it is available; else the engine's.

An image's bytes may change between versions of BuildKit. Samebits's own builder runs in a container. It cannot use an
image that only the engine has, and pulls its base from a registry.
"""

import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from samebits.core.errors import ToolError
from samebits.host.console import log_progress
from samebits.host.docker import Engine
from samebits.host.subprocesses import run_tool

BUILDKIT = "moby/buildkit:v0.26.2@sha256:de10faf919fc71ba4eb1dd7bd6449566d012b0c9436b1c61bfee21d621b009aa"
"""The image of samebits's own builder."""

# All in seconds.
REGISTRY_TIMEOUT = 5  # for a registry to confirm that it has the image
_START_TIMEOUT = 120  # to pull the image and start BuildKit, the first time
BASE_LOOKUP_TIMEOUT = 30  # for the builder to find the base


@dataclass(frozen=True, kw_only=True, slots=True)
class Builder:
    """A builder of buildx and the reason for it; no name means buildx's selected one, usually the engine's."""

    name: str | None
    reason: str

    def __str__(self) -> str:
        which = "the engine's builder" if self.name is None else f"the builder {self.name}"
        return f"{which} ({self.reason})"

    @property
    def options(self) -> tuple[str, ...]:
        """The options of buildx that select it."""
        return () if self.name is None else ("--builder", self.name)

    def describe(self) -> dict[str, str | None]:
        """Name, driver, versions, and the image of its BuildKit if it runs in a container."""
        command = ["docker", "buildx", "inspect", *(() if self.name is None else (self.name,))]
        version = run_tool(["docker", "buildx", "version"], what="inspecting the builder").strip()
        return _parse_inspect(run_tool(command, what="inspecting the builder")) | {"buildx": version}


def choose_builder(engine: Engine, base: str, *, offline: bool = False, buildkit: str = BUILDKIT) -> Builder:
    """The builder for a base; `base` is the name under which the engine or a registry has it.

    `BUILDX_BUILDER`, a variable of buildx itself, overrides the choice. Problems never raise: the engine's builder is
    used, with the reason.
    """
    if selected := os.environ.get("BUILDX_BUILDER"):
        return Builder(name=selected, reason="named by BUILDX_BUILDER")
    # A local image has no registry to be pulled from.
    if "@" not in base:
        return Builder(name=None, reason=f"only the engine has {base}")
    name = builder_name(buildkit)
    # A builder that exists has its image already, so no registry is asked.
    new = not _builder_exists(name)
    if new and (reason := _unavailable_reason(engine, buildkit, offline=offline)):
        return Builder(name=None, reason=reason)
    try:
        _start_builder(name, buildkit, new=new)
        # Checked before the build, so that a base out of reach selects the engine's builder instead of failing.
        _check_base(name, base)
    except ToolError as error:
        return Builder(name=None, reason=str(error))
    return Builder(name=name, reason=f"BuildKit pinned as {buildkit}")


def builder_name(buildkit: str) -> str:
    """The name of samebits's own builder; each version of BuildKit has its own."""
    # By the image's digest, so that an upgrade never reuses an older BuildKit.
    return f"samebits-{buildkit.rpartition(':')[2][:12]}"


def create_command(name: str, buildkit: str) -> list[str]:
    """The call that registers a builder with buildx; nothing is pulled yet."""
    image = f"image={buildkit}"
    return ["docker", "buildx", "create", "--name", name, "--driver", "docker-container", "--driver-opt", image]


def _builder_exists(name: str) -> bool:
    with suppress(ToolError):
        run_tool(["docker", "buildx", "inspect", name], what="inspecting the builder")
        return True
    return False


def _unavailable_reason(engine: Engine, buildkit: str, *, offline: bool) -> str | None:
    """Why BuildKit's image is not available, or None; nothing is pulled."""
    if engine.find_image(buildkit) is not None:
        return None
    if offline:
        return f"{buildkit} cannot be pulled offline"
    return None if engine.can_pull(buildkit, seconds=REGISTRY_TIMEOUT) else f"no registry serves {buildkit}"


def _start_builder(name: str, buildkit: str, *, new: bool) -> None:
    """Create the builder if it is new, and wait until it runs; raises ToolError, and removes a broken new one."""
    if new:
        log_progress(f"starting {buildkit} as the builder {name} (once)")
        # `create` fails if the name exists, `inspect --bootstrap` decides whether the builder works.
        with suppress(ToolError):  # another process created it first
            run_tool(create_command(name, buildkit), what="creating a builder")
    try:
        run_tool(
            ["docker", "buildx", "inspect", "--bootstrap", name], what=f"starting {buildkit}", limit=_START_TIMEOUT
        )
    except ToolError:
        if new:
            with suppress(ToolError):
                run_tool(["docker", "buildx", "rm", "--force", name], what="removing a builder")
        raise


def _check_base(name: str, base: str) -> None:
    """Raise ToolError if the builder cannot find the base with its own network, certificates and cache."""
    with tempfile.TemporaryDirectory(prefix="samebits-base-") as folder:
        (Path(folder) / "Dockerfile").write_text(f"FROM {base}\n")
        # The cheapest build that resolves the base: nothing is exported.
        command = ["docker", "buildx", "build", "--builder", name, "--output", "type=cacheonly", folder]
        run_tool(command, what=f"finding {base} with the builder {name}", limit=BASE_LOOKUP_TIMEOUT)


def _parse_inspect(inspected: str) -> dict[str, str | None]:
    """The output of `docker buildx inspect`, whose field names differ between versions."""
    # Later lines win: the node follows the builder and has the details.
    found = dict(line.split(":", 1) for line in inspected.splitlines() if ":" in line)
    # Only a builder in a container has an image; others embed BuildKit in the engine.
    image = re.search(r'^Driver Options:.*\bimage="([^"]+)"', inspected, re.MULTILINE)
    return {
        "name": found.get("Name", "").strip(),
        "driver": found.get("Driver", "").strip(),
        "buildkit": found.get("BuildKit version", found.get("Buildkit", "unknown")).strip(),
        "image": image[1] if image else None,
    }
