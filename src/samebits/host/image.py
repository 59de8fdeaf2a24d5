"""Plan and run the build of an image, and know an image again."""

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits import __version__
from samebits.codec import readable_json, write_atomically
from samebits.digest import Digest
from samebits.errors import ImageError
from samebits.host.cache import cache_folder
from samebits.host.display import say
from samebits.host.engine import Engine, Image
from samebits.host.process import run_tool
from samebits.host.source import context_file, lock_digest, source_digest, stage_context
from samebits.host.wheelhouse import filled_wheelhouse
from samebits.recipe import ImageIdentity

DEFAULT_TAG = "samebits:cpu"
_BASE_LABEL = "org.opencontainers.image.base.digest"


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildPlan:
    """One build, as it will be started: everything that the image is a function of."""

    tag: str
    base: str
    base_digest: Digest
    lock: Digest
    source: Digest

    @property
    def manifest(self) -> bytes:
        """What is baked into the image, for a container that no launcher tells its digest."""
        return readable_json(
            {
                "base_name": self.base,
                "base": str(self.base_digest),
                "lock": str(self.lock),
                "source": str(self.source),
                "version": __version__,
            }
        )

    @property
    def arguments(self) -> dict[str, str]:
        """The Dockerfile's build arguments."""
        return {
            "BASE": self.base,
            "BASE_NAME": self.base.partition("@")[0],
            "BASE_DIGEST": str(self.base_digest),
            "LOCK_DIGEST": str(self.lock),
            "SOURCE_DIGEST": str(self.source),
            "VERSION": __version__,
        }

    def matches(self, image: Image) -> bool:
        """Whether an image was built by this very plan."""
        wanted = {_BASE_LABEL: self.base_digest, "samebits.lock": self.lock, "samebits.source": self.source}
        return all(image.labels.get(name) == str(digest) for name, digest in wanted.items())

    def command(self, *, context: Path, source: Path, wheelhouse: Path, metadata: Path) -> list[str]:
        """The call of `docker buildx build`."""
        pairs = (word for name, value in self.arguments.items() for word in ("--build-arg", f"{name}={value}"))
        return [
            *("docker", "buildx", "build", "--load", "--provenance=false", "--tag", self.tag),
            *("--build-context", f"source={source}", "--build-context", f"wheelhouse={wheelhouse}"),
            *("--metadata-file", str(metadata), *pairs, str(context)),
        ]


def default_base() -> str:
    """`$SAMEBITS_BASE`, else the base that the Dockerfile pins."""
    match = re.search(r"^ARG BASE=(\S+)$", context_file("Dockerfile").read_text(), re.MULTILINE)
    if match is None:
        raise ImageError("the Dockerfile names no base; restore its line 'ARG BASE=…'")
    return os.environ.get("SAMEBITS_BASE") or match[1]


def plan_build(engine: Engine, *, tag: str, base: str) -> BuildPlan:
    """What is to be built; a base named by tag alone must be at the engine already, and its id pins it."""
    pinned = re.search(r"@(sha256:[0-9a-f]{64})$", base)
    if pinned is None:
        found = engine.find_image(base)
        if found is None:
            raise ImageError(
                f"the base image {base} is not here; name one by digest, or make one with `make base-image`"
            )
        digest = found.id
    else:
        digest = pinned[1]
    return BuildPlan(tag=tag, base=base, base_digest=Digest.parse(digest), lock=lock_digest(), source=source_digest())


def build(engine: Engine, *, tag: str = DEFAULT_TAG, base: str | None = None) -> Image:
    """Build the image, unless the very one is there; raises ToolError where the build fails."""
    plan = plan_build(engine, tag=tag, base=base or default_base())
    present = engine.find_image(tag)
    if present is not None and plan.matches(present):
        say(f"{tag} is up to date")
        return present
    wheelhouse = filled_wheelhouse()
    say(f"building {tag} on {plan.base}")
    with tempfile.TemporaryDirectory(prefix="samebits-build-") as folder:
        context, source, metadata = (Path(folder) / name for name in ("context", "source", "metadata.json"))
        _stage(context, source, plan)
        command = plan.command(context=context, source=source, wheelhouse=wheelhouse, metadata=metadata)
        run_tool(command, what=f"building {tag}", show=True)
        built = engine.find_image(tag)
        if built is None:
            raise ImageError(f"the build of {tag} ended well, and the engine does not have it; check its builder")
        _remember(built, json.loads(metadata.read_bytes()))
    return built


def _stage(context: Path, source: Path, plan: BuildPlan) -> None:
    """The two folders that the build sees: lock and Dockerfile; entrypoint and manifest."""
    for folder in (context, source):
        folder.mkdir()
        folder.chmod(0o755)
    for name in ("Dockerfile", "requirements.lock"):
        write_atomically(context / name, context_file(name).read_bytes())
    stage_context(source, plan.manifest)


def identify(engine: Engine, reference: str) -> tuple[Image, ImageIdentity]:
    """The image to train in, with its digests; raises ImageError where it is missing or belongs to another lock."""
    image = engine.find_image(reference)
    if image is None:
        raise ImageError(f"the image {reference} is not here; build it with `samebits build`")
    for label, ours, what in (
        ("samebits.lock", lock_digest(), "lock"),
        ("samebits.source", source_digest(), "version of samebits"),
    ):
        found = image.labels.get(label)
        if found != str(ours):
            raise ImageError(
                f"the image {reference} was built from another {what} ({found or 'none is named'}, here it is {ours});"
                " rebuild it with `samebits build`"
            )
    base = image.labels.get(_BASE_LABEL)
    return image, ImageIdentity(
        lock=lock_digest(),
        source=source_digest(),
        config=_config_digest(engine, image),
        base=Digest.parse(base) if base else None,
    )


def _config_digest(engine: Engine, image: Image) -> Digest:
    """From what is remembered of the build, else from the engine, then remembered."""
    path = _memory(image)
    try:
        return Digest.parse(json.loads(path.read_bytes())["config"])
    except (OSError, ValueError, KeyError):
        digest = engine.config_digest(image)
        write_atomically(path, readable_json({"config": str(digest)}))
        return digest


def _remember(image: Image, metadata: dict[str, Any]) -> None:
    """Keep what only the builder tells about an image that is at the engine."""
    config = metadata.get("containerimage.config.digest")
    if config is not None:
        manifest = metadata.get("containerimage.digest")
        write_atomically(_memory(image), readable_json({"config": config, "manifest": manifest}))


def _memory(image: Image) -> Path:
    return cache_folder("images") / f"{Digest.parse(image.id).hex}.json"
