"""Locks and images with packages of a project's own (about 20 minutes).

A lock is compared with plain pip-compile, an image with a plain Dockerfile that installs the same wheels on the same
base, from local folders and without network. A lock's time is that of the network.
"""

import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from figures import Figure
from measuring import ROOT, Options, call, ratios, require_engine, samebits, scratch, seconds

from samebits.core.run_config import make_config
from samebits.core.source_digest import PACKAGES_PATH
from samebits.host.docker import Engine
from samebits.host.image.build import BuildPlan, build, build_from_context, context_folder, plan_build
from samebits.host.image.build_context import CPU, ImageKind, context_file
from samebits.host.image.project_lock import project_kind
from samebits.host.image.wheelhouse import prepare_wheelhouse

EXAMPLE = ROOT / "examples" / "packages"
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


def measure(options: Options) -> Iterator[Figure]:
    """Rounds of all cases."""
    require_engine()
    engine = Engine()
    found: Found = {}
    with scratch() as folder:
        first = project(folder / "first")
        others = [project(folder / name, name) for name in MORE[: options.rounds_or(3)]]
        for number, other in enumerate(others):
            lock(found, folder / f"lock-{number}")
            build_both(found, "all packages, no cache", engine, first, cached=False)
            build_both(found, "nothing changed", engine, first)
            build_both(found, "one more small package", engine, other)
    for tag in (OURS, PLAIN):
        engine.remove_image(tag)
    for name, (plain, ours) in found.items():
        row = partial(Figure, table="packages", row=name)
        yield row(column="pip-compile, a plain Dockerfile", unit="s", values=tuple(plain))
        yield row(column="samebits", unit="s", values=tuple(ours))
        yield row(column="ratio", values=ratios(ours, plain))


def project(folder: Path, *more: str) -> ImageKind:
    """A copy of the example with more packages, locked."""
    shutil.copytree(EXAMPLE, folder)
    if more:
        with (folder / "requirements.in").open("a") as file:
            file.writelines(f"{name}\n" for name in more)
        samebits("lock", folder=folder)
    return project_kind(make_config({"script": folder / "train.py"}, fetched=False))


def lock(found: Found, folder: Path) -> None:
    """Lock the example's requirements with TensorFlow twice, from nothing."""
    folder.mkdir()
    wanted = (EXAMPLE / "requirements.in").read_text()
    (folder / "plain.in").write_text(f"{wanted}tensorflow-cpu\nkeras\n")
    (folder / "requirements.in").write_text(wanted)
    pip_compile = (sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--strip-extras")
    plain, ours = found.setdefault("lock, from nothing", ([], []))
    plain.append(call(*pip_compile, "--pip-args", "--only-binary :all:", "plain.in", folder=folder).seconds)
    ours.append(samebits("lock", folder=folder).seconds)


def build_both(
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
    with scratch() as folder:
        (folder / "Dockerfile").write_text(DOCKERFILE.format(base=plan.base))
        shutil.copy(context_file(CPU.lock), folder / "requirements.lock")
        shutil.copy(packages, folder / "packages.lock")
        contexts = [word for name, path in wheels.items() for word in ("--build-context", f"{name}={path}")]
        command = ("docker", "buildx", "build", "--load", *(() if cached else ("--no-cache",)), "--tag", PLAIN)
        call(*command, folder, *contexts)
