"""Plan and run the build of an image, and know an image again."""

import json
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits import __version__
from samebits.core.digest import Digest
from samebits.core.errors import ImageError, RecordError, ToolError
from samebits.core.jsonio import Fields, readable_json, write_atomically
from samebits.core.recipe import ImageIdentity
from samebits.host.cache_dir import cache_folder
from samebits.host.console import log
from samebits.host.docker import Engine, Image
from samebits.host.image.base_image import default_base, provide_base
from samebits.host.image.build_context import CPU, GPU, ImageKind, source_digest, write_context
from samebits.host.image.buildkit import Builder, choose_builder
from samebits.host.image.wheelhouse import filled_wheelhouse
from samebits.host.subprocesses import run_tool

SOURCE_DATE_EPOCH = "1767225600"
"""What all times in an image are set to: 2026-01-01T00:00:00Z. It says nothing but that it never changes."""

_BASE_LABEL = "org.opencontainers.image.base.digest"


def labels_of(*, base: Digest | None, lock: Digest, source: Digest) -> dict[str, str]:
    """What the labels of an image say that was built of these."""
    return {_BASE_LABEL: str(base), "samebits.lock": str(lock), "samebits.source": str(source)}


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildPlan:
    """One build, as it will be started: everything that the image is a function of."""

    kind: ImageKind
    tag: str
    base: str
    base_digest: Digest
    lock: Digest
    source: Digest
    version: str = __version__
    epoch: str = SOURCE_DATE_EPOCH

    @property
    def manifest(self) -> bytes:
        """The recipe's `image.json`."""
        return readable_json(
            {
                "format": "samebits.image",
                "version": "1.0",
                "samebits": self.version,
                "device": self.kind.device,
                "base_name": self.base,
                "base": str(self.base_digest),
                "lock": str(self.lock),
                "source": str(self.source),
                "source_date_epoch": self.epoch,
            }
        )

    @property
    def arguments(self) -> dict[str, str]:
        """The Dockerfile's build arguments, but for BASE: what they say is kept in the image."""
        return {
            "BASE_NAME": self.base.partition("@")[0],
            "BASE_DIGEST": str(self.base_digest),
            "DEVICE": self.kind.device,
            "LOCK_DIGEST": str(self.lock),
            "SOURCE_DIGEST": str(self.source),
            "SOURCE_DATE_EPOCH": self.epoch,
            "VERSION": self.version,
        }

    @classmethod
    def read(cls, manifest: Path, tag: str) -> "BuildPlan":
        """The plan that an `image.json` keeps, of this version of samebits or another."""
        fields = Fields(json.loads(manifest.read_bytes()))
        return cls(
            kind=GPU if fields.get("device", str) == GPU.device else CPU,
            tag=tag,
            base=fields.get("base_name", str),
            base_digest=Digest.parse(fields.get("base", str)),
            lock=Digest.parse(fields.get("lock", str)),
            source=Digest.parse(fields.get("source", str)),
            version=fields.get("samebits", str),
            epoch=fields.get("source_date_epoch", str),
        )

    def matches(self, image: Image) -> bool:
        """Whether an image was built by this very plan."""
        return labels_of(base=self.base_digest, lock=self.lock, source=self.source).items() <= image.labels.items()

    def command(
        self, *, builder: Builder, base: str, recipe: Path, wheelhouse: Path, metadata: Path, cached: bool
    ) -> list[str]:
        """The call of `docker buildx build`; `base` is the name by which the plan's base is at hand."""
        arguments = {**self.arguments, "BASE": base}
        pairs = (word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}"))
        return [
            *("docker", "buildx", "build", "--load", "--provenance=false", "--sbom=false", "--tag", self.tag),
            *builder.options,
            *(() if cached else ("--no-cache",)),
            *("--build-context", f"wheelhouse={wheelhouse}", "--metadata-file", str(metadata)),
            *(*pairs, "--file", str(recipe / "Dockerfile"), str(recipe)),
        ]


def plan_build(engine: Engine, kind: ImageKind, *, tag: str | None = None, base: str | None = None) -> BuildPlan:
    """What is to be built; a base named by tag alone must be at the engine already, and its id pins it."""
    base = base or default_base()
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
    return BuildPlan(
        kind=kind,
        tag=tag or kind.tag,
        base=base,
        base_digest=Digest.parse(digest),
        lock=kind.lock_digest,
        source=source_digest(kind),
    )


def build(engine: Engine, plan: BuildPlan, *, offline: bool = False) -> Image:
    """Build the image, unless the very one is there; raises ToolError where the build fails."""
    present = _present(engine, plan)
    if present is not None:
        log(f"{plan.tag} is up to date")
        return present
    with laid_out(plan) as recipe:
        return build_recipe(engine, plan, recipe, offline=offline)


@contextmanager
def laid_out(plan: BuildPlan) -> Iterator[Path]:
    """The plan's recipe in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="samebits-build-") as folder:
        recipe = Path(folder) / "recipe"
        recipe.mkdir()
        write_context(plan.kind, recipe, plan.manifest)
        yield recipe


def build_recipe(engine: Engine, plan: BuildPlan, recipe: Path, *, offline: bool = False, cached: bool = True) -> Image:
    """Build from a recipe's folder, whoever laid it out; raises ToolError where the build fails."""
    started = time.monotonic()
    base = provide_base(engine, plan.base, plan.base_digest, offline=offline)
    wheelhouse = filled_wheelhouse(recipe / "lock" / "requirements.lock", offline=offline)
    builder = choose_builder(engine, base, offline=offline)
    log(f"building {plan.tag} on {plan.base} by {builder}")
    with tempfile.TemporaryDirectory(prefix="samebits-build-") as folder:
        metadata = Path(folder) / "metadata.json"
        command = plan.command(
            builder=builder, base=base, recipe=recipe, wheelhouse=wheelhouse, metadata=metadata, cached=cached
        )
        _run_build(engine, command, plan, builder)
        built = engine.find_image(plan.tag)
        if built is None:
            raise ImageError(f"the build of {plan.tag} ended well, and the engine does not have it; check its builder")
        _remember(built, plan, builder, json.loads(metadata.read_bytes()))
    log(f"built {plan.tag} in {time.monotonic() - started:.1f} s")
    return built


def _present(engine: Engine, plan: BuildPlan) -> Image | None:
    """The image under the plan's tag, if it was built by this very plan."""
    image = engine.find_image(plan.tag)
    return image if image is not None and plan.matches(image) else None


def _run_build(engine: Engine, command: list[str], plan: BuildPlan, builder: Builder) -> None:
    """With buildx's own progress on stderr: its steps, each with its seconds.

    Where it failed and the image is there since, only unpacking went wrong, as it does now and then where the
    engine removes an older image meanwhile (github.com/moby/buildkit/issues/6521): it is tried once more.
    """
    what, before = f"building {plan.tag}", _present(engine, plan)
    try:
        try:
            run_tool(command, what=what, show=True)
        except ToolError:
            if before is not None or _present(engine, plan) is None:
                raise
            log(f"{plan.tag} was built, and could not be unpacked: once more")
            run_tool(command, what=what, show=True)
    except ToolError as error:
        hint = "where the base cannot be pulled, make one with `make base-image` and name it with --base"
        if builder.name is not None:
            hint = "BUILDX_BUILDER=default takes the engine's builder instead"
        raise ToolError(f"{error}; {hint}") from error


def find(engine: Engine, reference: str) -> Image:
    """An image that is at the engine; raises ImageError for one that is not."""
    image = engine.find_image(reference)
    if image is None:
        raise ImageError(f"the image {reference} is not here; build it with `samebits build`")
    return image


def identify(engine: Engine, reference: str) -> tuple[Image, ImageIdentity]:
    """The image to train in, with its digests; raises ImageError where it is missing or belongs to another lock."""
    image = find(engine, reference)
    kind = GPU if image.labels.get("samebits.device") == GPU.device else CPU
    lock, source = kind.lock_digest, source_digest(kind)
    for label, ours, what in (("samebits.lock", lock, "lock"), ("samebits.source", source, "version of samebits")):
        found = image.labels.get(label)
        if found != str(ours):
            raise ImageError(
                f"the image {reference} was built from another {what} ({found or 'none is named'}, here it is {ours});"
                " rebuild it with `samebits build`"
            )
    base = image.labels.get(_BASE_LABEL)
    return image, ImageIdentity(
        lock=lock,
        source=source,
        config=config_digest(engine, image),
        base=Digest.parse(base) if base else None,
    )


def config_digest(engine: Engine, image: Image) -> Digest:
    """From what is remembered of the build, else from the engine, then remembered."""
    known = _recall(image)
    if known:
        return Digest.parse(known["config"])
    digest = engine.config_digest(image)
    write_atomically(_memory(image), readable_json({"config": str(digest)}))
    return digest


def describe(engine: Engine, image: Image) -> dict[str, Any]:
    """What is known of an image, wherever it was built: its digests, its layers, and of our own builds the builder."""
    labels = {"base": _BASE_LABEL, "lock": "samebits.lock", "source": "samebits.source"}
    named = {what: image.labels[label] for what, label in labels.items() if label in image.labels}
    return {"config": str(config_digest(engine, image)), **named, **remembered(image)}


def _remember(image: Image, plan: BuildPlan, builder: Builder, metadata: dict[str, Any]) -> None:
    """Keep what only the builder tells about an image, beside what it was built from."""
    config = metadata.get("containerimage.config.digest")
    if config is None:
        return
    known = {
        "config": config,
        "manifest": metadata.get("containerimage.digest"),
        "layers": list(image.layers),
        "base": str(plan.base_digest),
        "lock": str(plan.lock),
        "source": str(plan.source),
        "builder": builder.describe(),
    }
    write_atomically(_memory(image), readable_json(known))


def remembered(image: Image) -> dict[str, Any]:
    """What is known of an image beyond what the engine tells; little where it was built elsewhere."""
    return {**_recall(image), "layers": list(image.layers)}


def _recall(image: Image) -> dict[str, Any]:
    """What the cache has; nothing where the image was built elsewhere, or the file is not what we wrote."""
    try:
        known: dict[str, Any] = json.loads(_memory(image).read_bytes())
        fields = Fields(known)
        Digest.parse(fields.get("config", str))
        fields.optional("builder", dict)
    except (OSError, ValueError, RecordError):
        return {}
    return known


def _memory(image: Image) -> Path:
    return cache_folder("images") / f"{Digest.parse(image.id).hex}.json"
