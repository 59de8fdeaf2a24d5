"""Which BuildKit builds: one of samebits's own, pinned by digest, where it can be had; else the engine's.

The bytes of an image may change between versions of BuildKit. Samebits's own builder is a container of the engine: it
sees no image that only the engine has, and must fetch its base from a registry by itself.
"""

import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from samebits.core.errors import ToolError
from samebits.host.console import log
from samebits.host.docker import Engine
from samebits.host.subprocesses import run_tool

BUILDKIT = "moby/buildkit:v0.26.2@sha256:de10faf919fc71ba4eb1dd7bd6449566d012b0c9436b1c61bfee21d621b009aa"
"""The image of samebits's own builder."""

REQUEST_TIMEOUT = 5  # seconds for a registry to say that it has the image
_START_TIMEOUT = 120  # seconds for the image to arrive and BuildKit to start, the first time
POLL_SECONDS = 30  # seconds for the builder to find the base


@dataclass(frozen=True, kw_only=True, slots=True)
class Builder:
    """A builder of buildx, and why it was taken; no name means the selected one: the engine's, as a rule."""

    name: str | None
    why: str

    def __str__(self) -> str:
        which = "the engine's builder" if self.name is None else f"the builder {self.name}"
        return f"{which} ({self.why})"

    @property
    def options(self) -> tuple[str, ...]:
        """What names it to buildx."""
        return () if self.name is None else ("--builder", self.name)

    def describe(self) -> dict[str, str | None]:
        """Name, driver, versions and, where it has one of its own, the image of its BuildKit."""
        words = ["docker", "buildx", "inspect", *(() if self.name is None else (self.name,))]
        version = run_tool(["docker", "buildx", "version"], what="asking for the builder").strip()
        return _described(run_tool(words, what="asking for the builder")) | {"buildx": version}


def choose_builder(engine: Engine, base: str, *, offline: bool = False, buildkit: str = BUILDKIT) -> Builder:
    """The builder for a base, by the name under which it is at hand; never fails, and costs seconds where it settles.

    `BUILDX_BUILDER`, which buildx itself knows, names another.
    """
    if named := os.environ.get("BUILDX_BUILDER"):
        return Builder(name=named, why="named by BUILDX_BUILDER")
    if "@" not in base:
        return Builder(name=None, why=f"only the engine has {base}")
    name = own_name(buildkit)
    new = not _exists(name)
    if new and (reason := _out_of_reach(engine, buildkit, offline=offline)):
        return Builder(name=None, why=reason)
    try:
        _start(name, buildkit, new=new)
        _look(name, base)
    except ToolError as error:
        return Builder(name=None, why=str(error))
    return Builder(name=name, why=f"BuildKit pinned as {buildkit}")


def own_name(buildkit: str) -> str:
    """The name of samebits's own builder: another BuildKit is another builder."""
    return f"samebits-{buildkit.rpartition(':')[2][:12]}"


def creation(name: str, buildkit: str) -> list[str]:
    """The call that makes a builder known to buildx; nothing is fetched yet."""
    image = f"image={buildkit}"
    return ["docker", "buildx", "create", "--name", name, "--driver", "docker-container", "--driver-opt", image]


def _exists(name: str) -> bool:
    with suppress(ToolError):
        run_tool(["docker", "buildx", "inspect", name], what="looking for the builder")
        return True
    return False


def _out_of_reach(engine: Engine, buildkit: str, *, offline: bool) -> str | None:
    """Why the image of BuildKit cannot be had, if so; it is asked for, not fetched."""
    if engine.find_image(buildkit) is not None:
        return None
    if offline:
        return f"without network {buildkit} cannot be fetched"
    return None if engine.can_pull(buildkit, seconds=REQUEST_TIMEOUT) else f"no registry gives {buildkit}"


def _start(name: str, buildkit: str, *, new: bool) -> None:
    """Make the builder where it is new, and wait until it runs; raises ToolError, and leaves no half-made one."""
    if new:
        log(f"starting {buildkit} as the builder {name} (once)")
        with suppress(ToolError):  # another process was faster
            run_tool(creation(name, buildkit), what="making a builder")
    try:
        run_tool(
            ["docker", "buildx", "inspect", "--bootstrap", name], what=f"starting {buildkit}", limit=_START_TIMEOUT
        )
    except ToolError:
        if new:
            with suppress(ToolError):
                run_tool(["docker", "buildx", "rm", "--force", name], what="removing a builder")
        raise


def _look(name: str, base: str) -> None:
    """Raise ToolError where the builder cannot find the base, by its own network, certificates and cache."""
    with tempfile.TemporaryDirectory(prefix="samebits-look-") as folder:
        (Path(folder) / "Dockerfile").write_text(f"FROM {base}\n")
        command = ["docker", "buildx", "build", "--builder", name, "--output", "type=cacheonly", folder]
        run_tool(command, what=f"finding {base} by the builder {name}", limit=POLL_SECONDS)


def _described(inspected: str) -> dict[str, str | None]:
    """What `docker buildx inspect` says, whose words differ from version to version."""
    found = dict(line.split(":", 1) for line in inspected.splitlines() if ":" in line)
    image = re.search(r'^Driver Options:.*\bimage="([^"]+)"', inspected, re.MULTILINE)
    return {
        "name": found.get("Name", "").strip(),
        "driver": found.get("Driver", "").strip(),
        "buildkit": found.get("BuildKit version", found.get("Buildkit", "unknown")).strip(),
        "image": image[1] if image else None,
    }
