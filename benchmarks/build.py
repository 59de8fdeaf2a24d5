"""Measure what BENCHMARKS.md states of builds, side by side: `make bench-build` (about ten minutes)."""

import argparse
import gzip
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from samebits.host.docker import Engine
from samebits.host.image.build import BuildPlan, build_from_context, context_folder, plan_build, require_image
from samebits.host.image.build_context import CPU, context_file
from samebits.host.image.wheelhouse import prepare_wheelhouse

COMMAND = str(Path(sys.executable).with_name("samebits"))
NAIVE = """\
FROM {base}
RUN --mount=type=bind,from=wheelhouse,target=/mnt --mount=type=bind,target=/media python3 -m venv /venv \\
 && /venv/bin/pip install --no-index --find-links=/mnt -r /media/requirements.lock
"""


def main() -> None:
    """Run all measurements and print them as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    engine = Engine()
    plan = plan_build(engine, CPU, tag="samebits:bench")
    wheelhouse = prepare_wheelhouse(context_file(CPU.lock))
    naive, ours = [], []
    for _ in range(rounds):
        naive.append(_seconds(lambda: build_naively(plan, wheelhouse)))
        ours.append(_seconds(lambda: build_cold(engine, plan)))
    base, found = statistics.median(naive), statistics.median(ours)
    print(f"| build of the CPU image, medians of {rounds} interleaved rounds | seconds | ratio |\n|---|---|---|")
    print(f"| naive Dockerfile, same wheels, no cache | {base:.1f} | 1.00 |")
    print(f"| `samebits build`, wheelhouse filled, no cache | {found:.1f} | {found / base:.2f} |")
    subprocess.run([COMMAND, "build"], check=True, capture_output=True)
    warm = statistics.median(_seconds(build_again) for _ in range(rounds))
    print(f"| `samebits build`, up to date | {warm:.2f} | |")
    print(f"| a change of the source alone | {_seconds(lambda: build_changed(engine, plan)):.1f} | |")
    print(f"\nCompressed size: {compressed(engine) / 1e6:.0f} MB")
    for tag in ("samebits:bench", "samebits:naive"):
        engine.remove_image(tag)


def build_again() -> None:
    """The command where there is nothing to do."""
    subprocess.run([COMMAND, "build"], check=True, capture_output=True)


def build_naively(plan: BuildPlan, wheelhouse: Path) -> None:
    """What one would write without thinking of digests."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(NAIVE.format(base=plan.base))
        (Path(folder) / "requirements.lock").write_bytes(context_file(CPU.lock).read_bytes())
        command = ["docker", "buildx", "build", "--load", "--no-cache", "--tag", "samebits:naive", folder]
        subprocess.run(
            [*command, "--build-context", f"wheelhouse={wheelhouse}"], check=True, capture_output=True, text=True
        )


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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.tar"
        engine.export([require_image(engine, CPU.tag)], path)
        with tarfile.open(path) as archive:
            blobs = [member for member in archive if member.name.startswith("blobs/") and member.isfile()]
            return sum(_gzipped_size(archive, member) for member in blobs)


def _gzipped_size(archive: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    file = archive.extractfile(member)
    content = b"" if file is None else file.read()
    return len(content) if content[:2] == b"\x1f\x8b" else len(gzip.compress(content, 6))


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
