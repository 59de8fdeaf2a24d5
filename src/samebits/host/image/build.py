"""Plan and run the build of an image, and keep what the builder reports about it."""

import json
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samebits import __version__
from samebits.core.code_tree import FILE_TIME
from samebits.core.digest import Digest
from samebits.core.environment import PODMAN
from samebits.core.errors import ImageError, RecordError, StorageError, ToolError
from samebits.core.jsonio import Fields, read_json, readable_json, write_atomically
from samebits.core.source_digest import LOCK_PATH, PACKAGES_PATH
from samebits.host.cache_dir import cache_folder, read_own
from samebits.host.console import log, log_progress
from samebits.host.docker import Engine, Image
from samebits.host.image.base_image import base_advice, default_base, provide_base
from samebits.host.image.build_context import (
    CPU,
    GPU,
    IMAGE_PYTHON,
    ImageKind,
    parse_python,
    source_digest,
    write_context,
)
from samebits.host.image.buildkit import Builder, choose_builder
from samebits.host.image.package_layers import layer_wheels
from samebits.host.image.wheel_metadata import check_dependencies
from samebits.host.image.wheelhouse import Target, prepare_wheelhouse
from samebits.host.subprocesses import run_tool

SOURCE_DATE_EPOCH = str(FILE_TIME)
"""The time of every file in an image, 2026-01-01T00:00:00Z. Its value is arbitrary; it must never change."""

BASE_LABEL = "org.opencontainers.image.base.digest"
PYTHON_LABEL = "samebits.python"
PACKAGES_LABEL = "samebits.packages"
"""Images without packages of a project lack it."""


def image_labels(*, base: Digest | None, lock: Digest, source: Digest, packages: Digest | None) -> dict[str, str]:
    """The labels of an image that was built from these."""
    labels = {BASE_LABEL: str(base), "samebits.lock": str(lock), "samebits.source": str(source)}
    return labels | ({} if packages is None else {PACKAGES_LABEL: str(packages)})


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildPlan:
    """One build: everything that determines the image."""

    kind: ImageKind
    tag: str
    base: str
    base_digest: Digest
    lock: Digest
    source: Digest
    packages: Digest | None = None
    version: str = __version__
    epoch: str = SOURCE_DATE_EPOCH

    @property
    def manifest(self) -> bytes:
        """The build context's `image.json`."""
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
                **({} if self.packages is None else {"packages": str(self.packages)}),
                **({} if self.kind.python == IMAGE_PYTHON else {"python": self.kind.python_text}),
                "source_date_epoch": self.epoch,
            }
        )

    @property
    def arguments(self) -> dict[str, str]:
        """The Dockerfile's build arguments, which the image keeps; without BASE."""
        return {
            "BASE_NAME": self.base.partition("@")[0],
            "BASE_DIGEST": str(self.base_digest),
            "DEVICE": self.kind.device,
            "LOCK_DIGEST": str(self.lock),
            "SOURCE_DIGEST": str(self.source),
            "SOURCE_DATE_EPOCH": self.epoch,
            "VERSION": self.version,
            **({} if self.kind.python == IMAGE_PYTHON else {"PYTHON": self.kind.python_text}),
            # The Dockerfile of an older run has no stage of this name.
            **({} if self.packages is None else {"LAYERS": "packages", "PACKAGES_DIGEST": str(self.packages)}),
        }

    @classmethod
    def read(cls, manifest: Path, tag: str) -> "BuildPlan":
        """The plan in an `image.json`, which this or another version of samebits wrote."""
        fields = Fields(read_json(manifest, manifest.parents[1]))
        packages = fields.optional("packages", str)
        kind = GPU if fields.get("device", str) == GPU.device else CPU
        return cls(
            kind=replace(kind, python=parse_python(fields.optional("python", str))),
            tag=tag,
            base=fields.get("base_name", str),
            base_digest=Digest.parse(fields.get("base", str)),
            lock=Digest.parse(fields.get("lock", str)),
            source=Digest.parse(fields.get("source", str)),
            packages=None if packages is None else Digest.parse(packages),
            version=fields.get("samebits", str),
            epoch=fields.get("source_date_epoch", str),
        )

    def matches(self, image: Image) -> bool:
        """Whether an image was built from this plan."""
        labels = image_labels(base=self.base_digest, lock=self.lock, source=self.source, packages=self.packages)
        same_python = image_python(image) == self.kind.python
        return labels.items() <= image.labels.items() and has_packages(image, self.packages) and same_python

    def command(
        self,
        *,
        builder: Builder,
        base: str,
        context: Path,
        wheelhouses: Mapping[str, Path],
        metadata: Path,
        cached: bool,
    ) -> list[str]:
        """The call of `docker buildx build`; `base` is the name under which the builder finds the plan's base."""
        arguments = {**self.arguments, "BASE": base}
        pairs = (part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}"))
        # Attestations hold times and would change the image's digest from build to build.
        return [
            *("docker", "buildx", "build", "--load", "--provenance=false", "--sbom=false", "--tag", self.tag),
            *("--network", "none"),  # of every RUN; the wheels are there before
            *builder.options,
            *(() if cached else ("--no-cache",)),
            *(part for name, folder in wheelhouses.items() for part in ("--build-context", f"{name}={folder}")),
            *("--metadata-file", str(metadata)),
            *(*pairs, "--file", str(context / "Dockerfile"), str(context)),
        ]


def image_python(image: Image) -> tuple[int, int]:
    """The Python that an image was built with; images of earlier versions have no label of it."""
    return parse_python(image.labels.get(PYTHON_LABEL))


def has_packages(image: Image, packages: Digest | None) -> bool:
    """Whether an image holds these packages of a project, and none if it is None."""
    return image.labels.get(PACKAGES_LABEL) == (None if packages is None else str(packages))


def plan_build(engine: Engine, kind: ImageKind, *, tag: str | None = None, base: str | None = None) -> BuildPlan:
    """Plan a build; a base named by tag must be in the engine already, and its id pins it."""
    base = base or default_base(kind.python)
    # A registry digest names content. A tag does not, so the id of the local image takes its place.
    pinned = re.search(r"@(sha256:[0-9a-f]{64})$", base)
    if pinned is None:
        found = engine.find_image(base)
        if found is None:
            raise ImageError(f"the engine has no base image {base}; name one by digest, or {base_advice(kind.python)}")
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
        packages=kind.packages_digest,
    )


def build(engine: Engine, plan: BuildPlan, *, offline: bool = False) -> Image:
    """Build the image, unless it is up to date; raises ToolError if the build fails."""
    # Labels decide, not times: the image is current if base, lock and source have the planned digests.
    present = _present(engine, plan)
    if present is not None:
        log_progress(f"{plan.tag} is up to date")
        return present
    with context_folder(plan) as context:
        return build_from_context(engine, plan, context, offline=offline)


@contextmanager
def context_folder(plan: BuildPlan) -> Iterator[Path]:
    """The plan's build context in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="samebits-build-") as folder:
        context = Path(folder) / "context"
        context.mkdir()
        write_context(plan.kind, context, plan.manifest)
        yield context


def build_from_context(
    engine: Engine, plan: BuildPlan, context: Path, *, offline: bool = False, cached: bool = True
) -> Image:
    """Build from a build context; raises ToolError if the build fails, ImageError if base or wheels are missing."""
    if engine.runtime == PODMAN:
        raise ImageError(f"Podman builds no {plan.tag}: only Docker does; build there, and load the image here")
    started = time.monotonic()
    # Everything the network is needed for comes before the build itself, which runs without.
    base = provide_base(engine, plan.base, plan.base_digest, offline=offline)
    target = Target(python=plan.kind.python)
    wheelhouse = prepare_wheelhouse(context / LOCK_PATH, target, offline=offline)
    packages = None if plan.packages is None else prepare_wheelhouse(context / PACKAGES_PATH, target, offline=offline)
    if packages is not None:
        check_dependencies([*wheelhouse.glob("*.whl"), *packages.glob("*.whl")], target)
    builder = choose_builder(engine, base, offline=offline)
    log_progress(f"building {plan.tag} on {plan.base} with {builder}")
    with tempfile.TemporaryDirectory(prefix="samebits-build-") as folder:
        # buildx writes the digests into this file; the engine does not report all of them.
        metadata = Path(folder) / "metadata.json"
        layers = {} if packages is None else layer_wheels(context / PACKAGES_PATH, packages, Path(folder))
        wheelhouses = {"wheelhouse": wheelhouse, **layers}
        command = plan.command(
            builder=builder, base=base, context=context, wheelhouses=wheelhouses, metadata=metadata, cached=cached
        )
        _run_build(engine, command, plan, builder)
        built = engine.find_image(plan.tag)
        if built is None:
            raise ImageError(f"the build of {plan.tag} succeeded, but the engine has no image; check the builder")
        _store_metadata(built, plan, builder, json.loads(metadata.read_bytes()))
    log_progress(f"built {plan.tag} in {time.monotonic() - started:.1f} s")
    return built


def _present(engine: Engine, plan: BuildPlan) -> Image | None:
    """The image with the plan's tag, if it was built from this plan."""
    image = engine.find_image(plan.tag)
    return image if image is not None and plan.matches(image) else None


def _run_build(engine: Engine, command: list[str], plan: BuildPlan, builder: Builder) -> None:
    """Run buildx, with its progress on stderr; raises ToolError with advice."""
    what, before = f"building {plan.tag}", _present(engine, plan)
    # If buildx failed and the new image exists, only unpacking failed. This happens when the engine removes an older
    # image at the same time (github.com/moby/buildkit/issues/6521), so the build is tried once more.
    try:
        try:
            run_tool(command, what=what, show=True)
        except ToolError:
            if before is not None or _present(engine, plan) is None:
                raise
            log(f"{plan.tag} was built but could not be unpacked; trying again")
            run_tool(command, what=what, show=True)
    except ToolError as error:
        # The engine's builder fails mostly for a base that no registry serves, another builder for itself.
        hint = f"if the base cannot be pulled, {base_advice(plan.kind.python)}"
        if builder.name is not None:
            hint = "BUILDX_BUILDER=default selects the engine's builder instead"
        raise ToolError(f"{error}; {hint}") from error


def require_image(engine: Engine, reference: str) -> Image:
    """The image with that name; raises ImageError if the engine does not have it."""
    image = engine.find_image(reference)
    if image is None:
        raise ImageError(f"the engine has no image {reference}; build it with `samebits build`")
    return image


def config_digest(engine: Engine, image: Image) -> Digest:
    """The digest of an image's configuration, from the cache or from the engine."""
    # Elsewhere the id is the digest, and a file could only contradict it.
    if not engine.uses_containerd_store:
        return engine.config_digest(image)
    # Reading it from the engine means an export of the whole image.
    known = _load_metadata(image)
    if known:
        return Digest.parse(known["config"])
    # Cached by the image's id, which never names another content.
    digest = engine.config_digest(image)
    write_atomically(_metadata_path(image), readable_json({"config": str(digest), "layers": list(image.layers)}))
    return digest


def describe_image(engine: Engine, image: Image) -> dict[str, Any]:
    """An image's digests and layers, and its builder if it was built on this machine."""
    # An image from elsewhere lacks some labels, and all cached metadata.
    labels = {"base": BASE_LABEL, "lock": "samebits.lock", "packages": PACKAGES_LABEL, "source": "samebits.source"}
    labelled = {what: image.labels[label] for what, label in labels.items() if label in image.labels}
    return {"config": str(config_digest(engine, image)), **labelled, **known_metadata(image)}


def _store_metadata(image: Image, plan: BuildPlan, builder: Builder, metadata: dict[str, Any]) -> None:
    """Cache what only the builder reports about an image, and what the image was built from."""
    config = metadata.get("containerimage.config.digest")
    # Some builders report no digest. It is then read from the engine when needed.
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
    write_atomically(_metadata_path(image), readable_json(known))


def known_metadata(image: Image) -> dict[str, Any]:
    """The cached metadata of an image, with its layers; only the layers if it was built elsewhere."""
    return {**_load_metadata(image), "layers": list(image.layers)}


def _load_metadata(image: Image) -> dict[str, Any]:
    """The cached metadata; empty if the image was built elsewhere, the file is damaged, or about another image."""
    try:
        known: dict[str, Any] = json.loads(read_own(_metadata_path(image)))
        fields = Fields(known)
        Digest.parse(fields.get("config", str))
        fields.optional("builder", dict)
        return known if _agrees(known, image) else {}
    except (OSError, ValueError, RecordError, StorageError):
        return {}


def _agrees(known: Mapping[str, Any], image: Image) -> bool:
    """Whether metadata has the layers and labels that the engine reports of an image."""
    labels = {"base": BASE_LABEL, "lock": "samebits.lock", "source": "samebits.source"}
    same = all(known.get(what, image.labels.get(label)) == image.labels.get(label) for what, label in labels.items())
    return same and known.get("layers") == list(image.layers)


def _metadata_path(image: Image) -> Path:
    return cache_folder("images") / f"{Digest.parse(image.id).hex}.json"
