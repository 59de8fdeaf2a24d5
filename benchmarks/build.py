"""What a build of the image costs beside a naive Dockerfile with the same wheels (about ten minutes)."""

import gzip
import tarfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from figures import Figure
from measuring import Options, call, interleaved, ratios, require_engine, samebits, scratch, seconds

from samebits.host.docker import Engine
from samebits.host.image.build import BuildPlan, build_from_context, context_folder, plan_build, require_image
from samebits.host.image.build_context import CPU, context_file
from samebits.host.image.wheelhouse import prepare_wheelhouse

NAIVE_NAME, OURS = "naive Dockerfile, same wheels, no cache", "`samebits build`, wheelhouse filled, no cache"
NAIVE = """\
FROM {base}
RUN --mount=type=bind,from=wheelhouse,target=/mnt --mount=type=bind,target=/media python3 -m venv /venv \\
 && /venv/bin/pip install --no-index --find-links=/mnt -r /media/requirements.lock
"""


def measure(options: Options) -> Iterator[Figure]:
    """The whole image, then what a second build takes."""
    require_engine()
    engine = Engine()
    plan = plan_build(engine, CPU, tag="samebits:bench")
    wheelhouse = prepare_wheelhouse(context_file(CPU.lock))
    actions = {
        NAIVE_NAME: partial(seconds, partial(build_naively, plan, wheelhouse)),
        OURS: partial(seconds, partial(build_cold, engine, plan)),
    }
    rounds = options.rounds_or(3)
    found = {name: tuple(values) for name, values in interleaved(actions, rounds).items()}
    samebits("build")
    rows = {
        **found,
        "`samebits build`, up to date": tuple(samebits("build").seconds for _ in range(rounds)),
        "a change of the source alone": tuple(seconds(lambda: build_changed(engine, plan)) for _ in range(rounds)),
    }
    for name, values in rows.items():
        yield Figure(table="build of the CPU image", row=name, column="time", unit="s", values=values)
        if name in found:
            ratio = ratios(values, found[NAIVE_NAME])
            yield Figure(table="build of the CPU image", row=name, column="ratio", values=ratio)
    size = (compressed(engine) / 1e6,)
    yield Figure(table="build of the CPU image", row="layers, gzipped", column="size", unit="MB", values=size)
    for tag in ("samebits:bench", "samebits:naive"):
        engine.remove_image(tag)


def build_naively(plan: BuildPlan, wheelhouse: Path) -> None:
    """What one would write without thinking of digests."""
    with scratch() as folder:
        (folder / "Dockerfile").write_text(NAIVE.format(base=plan.base))
        (folder / "requirements.lock").write_bytes(context_file(CPU.lock).read_bytes())
        command = ("docker", "buildx", "build", "--load", "--no-cache", "--tag", "samebits:naive", folder)
        call(*command, "--build-context", f"wheelhouse={wheelhouse}")


def build_cold(engine: Engine, plan: BuildPlan) -> None:
    """The real build, without cache."""
    with context_folder(plan) as context:
        build_from_context(engine, plan, context, cached=False)


def build_changed(engine: Engine, plan: BuildPlan) -> None:
    """The real build with cache, after a byte of the source has changed."""
    with context_folder(plan) as context:
        file = context / "source" / "samebits" / "core" / "errors.py"
        file.write_text(f"{file.read_text()}# {time.time_ns()}\n")
        build_from_context(engine, plan, context)


def compressed(engine: Engine) -> int:
    """Bytes of the image's layers, gzipped as for a registry; the stand-in base's layer comes uncompressed."""
    with scratch() as folder:
        path = folder / "image.tar"
        engine.export([require_image(engine, CPU.tag)], path)
        with tarfile.open(path) as archive:
            blobs = [member for member in archive if member.name.startswith("blobs/") and member.isfile()]
            return sum(_gzipped_size(archive, member) for member in blobs)


def _gzipped_size(archive: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    file = archive.extractfile(member)
    content = b"" if file is None else file.read()
    return len(content) if content[:2] == b"\x1f\x8b" else len(gzip.compress(content, 6))
