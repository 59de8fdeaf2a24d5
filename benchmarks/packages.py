"""Measure locks and images with packages of a project's own: `make bench-packages` (about 20 minutes).

A lock is compared with plain pip-compile, an image with a plain Dockerfile that installs the same wheels on the same
base, from local folders and without network. A lock's time is that of the network.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from samebits.core.run_config import make_config
from samebits.core.source_digest import PACKAGES_PATH
from samebits.host.docker import Engine
from samebits.host.image.build import BuildPlan, build, build_from_context, context_folder, plan_build
from samebits.host.image.build_context import CPU, ImageKind, context_file
from samebits.host.image.project_lock import project_kind
from samebits.host.image.wheelhouse import prepare_wheelhouse

COMMAND = str(Path(sys.executable).with_name("samebits"))
EXAMPLE = Path(__file__).parents[1] / "examples" / "packages"
OURS, PLAIN = "samebits:bench-packages", "samebits:bench-plain"
MORE = ("tabulate", "humanize", "colorama", "pluggy", "tqdm")
"""A small package for each round: the engine has cached the layer of one that it built before."""

DOCKERFILE = """\
FROM {base}
COPY requirements.lock packages.lock /
RUN --mount=type=bind,from=base,target=/wheels/base --mount=type=bind,from=packages,target=/wheels/packages \\
    python3 -m venv /venv && /venv/bin/pip install --no-index --find-links=/wheels/base --find-links=/wheels/packages \\
    -r /requirements.lock -r /packages.lock
"""


Found = dict[str, tuple[list[float], list[float]]]
"""For each case the seconds of the plain tools, and ours."""


def main() -> None:
    """Run all rounds, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, choices=range(1, len(MORE) + 1))
    rounds = parser.parse_args().rounds
    engine = Engine()
    found: Found = {}
    with tempfile.TemporaryDirectory() as scratch:
        first = project(Path(scratch) / "first")
        others = [project(Path(scratch) / name, name) for name in MORE[:rounds]]
        for number, other in enumerate(others):
            measure_lock(found, Path(scratch) / f"lock-{number}")
            measure(found, "all packages, no cache", engine, first, cached=False)
            measure(found, "nothing changed", engine, first)
            measure(found, "one more small package", engine, other)
    for tag in (OURS, PLAIN):
        engine.remove_image(tag)
    print(f"| medians of {rounds} interleaved rounds | pip-compile, a plain Dockerfile | samebits | ratio |")
    print("|---|---|---|---|")
    for name, (plain, ours) in found.items():
        print(f"| {name} | {described(plain)} | {described(ours)} | {middle(ours) / middle(plain):.2f} |")


def project(folder: Path, *more: str) -> ImageKind:
    """A copy of the example with more packages, locked."""
    shutil.copytree(EXAMPLE, folder)
    if more:
        with (folder / "requirements.in").open("a") as file:
            file.writelines(f"{name}\n" for name in more)
        quietly(COMMAND, "lock", folder=folder)
    return project_kind(make_config({"script": folder / "train.py"}, fetched=False))


def measure_lock(found: Found, folder: Path) -> None:
    """Lock the example's requirements with TensorFlow twice, from nothing."""
    folder.mkdir()
    wanted = (EXAMPLE / "requirements.in").read_text()
    (folder / "plain.in").write_text(f"{wanted}tensorflow-cpu\nkeras\n")
    (folder / "requirements.in").write_text(wanted)
    pip_compile = (sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--strip-extras")
    plain, ours = found.setdefault("lock, from nothing", ([], []))
    plain.append(seconds(lambda: quietly(*pip_compile, "--pip-args", "--only-binary :all:", "plain.in", folder=folder)))
    ours.append(seconds(lambda: quietly(COMMAND, "lock", folder=folder)))


def quietly(*command: str, folder: Path) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def measure(
    found: Found,
    name: str,
    engine: Engine,
    kind: ImageKind,
    *,
    cached: bool = True,
) -> None:
    """Build both images once."""
    plan = plan_build(engine, kind, tag=OURS)
    plain, ours = found.setdefault(name, ([], []))
    with context_folder(plan) as context:
        packages = context / PACKAGES_PATH
        plain.append(seconds(lambda: build_plainly(plan, packages, cached=cached)))
        ours.append(seconds(lambda: build_ours(engine, plan, context, cached=cached)))


def build_ours(engine: Engine, plan: BuildPlan, context: Path, *, cached: bool) -> None:
    """What `samebits build SCRIPT` does."""
    if cached:
        build(engine, plan)
    else:
        build_from_context(engine, plan, context, cached=False)


def build_plainly(plan: BuildPlan, packages: Path, *, cached: bool) -> None:
    """What one would write by hand, with the wheels at hand."""
    wheels = {"base": prepare_wheelhouse(context_file(CPU.lock)), "packages": prepare_wheelhouse(packages)}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(DOCKERFILE.format(base=plan.base))
        shutil.copy(context_file(CPU.lock), Path(folder) / "requirements.lock")
        shutil.copy(packages, Path(folder) / "packages.lock")
        contexts = [word for name, path in wheels.items() for word in ("--build-context", f"{name}={path}")]
        command = ["docker", "buildx", "build", "--load", *([] if cached else ["--no-cache"]), "--tag", PLAIN, folder]
        subprocess.run([*command, *contexts], check=True, capture_output=True, text=True)


def seconds(action: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def middle(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)


def described(values: list[float]) -> str:
    """The median, the least and the most, in seconds."""
    return f"{middle(values):.1f} s ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
