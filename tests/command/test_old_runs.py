"""Runs that samebits 0.1.0 recorded: they are still shown, compared, verified, resumed and rebuilt.

`tests/data/runs-0.1.0.tar.xz` holds three of them, of `tests/scripts/fit.py` over `tests/scripts/numbers.csv` under the
portable profile with `--keep all`. They keep their own source, whose package beside the script is `samebits.container`.
"""

import json
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.record import FINISHED, Record
from samebits.core.run_dir import RunDir
from samebits.host.docker import Engine
from samebits.host.image.base_image import default_base
from samebits.host.image.build import BuildPlan, build_from_context
from samebits.host.image.build_context import fix_modes
from support.command import COMMAND, DATA, Done, Project, call, newest
from support.images import plain_run

VENV = "20261127T023836Z-train-487e556c"
DOCKER = "20261127T023855Z-train-c90fa30e"
INTERRUPTED = "20261127T032654Z-train-56c5769a"
RESULT = "sha256:37fc93f03c22ad829b362dd1d21bbcd13b857d258fec0941c9d5e74349230699"
"""Of both finished runs: the profile reaches it in either runtime, and on every CPU that it is for."""

OLD = "samebits-test:of-0.1.0"


@pytest.fixture
def kept(project: Project) -> Project:
    """The small project, with the old runs among its own."""
    with tarfile.open(DATA / "runs-0.1.0.tar.xz") as archive:
        archive.extractall(project.folder, filter="data")
    return project


def again(kept: Project, run: str, *words: str) -> Done:
    """A command over an old run; its data is elsewhere now, and it was not trained on this machine."""
    trust = ("--trust-its-code", run)
    return call(words[0], run, "--data", str(kept.data), *trust, *words[1:], folder=kept.folder)


def is_like_here(record: Record) -> bool:
    """Whether this Python and this C library are the recorded ones: a virtual environment takes the machine's own."""
    seen = record.environment.system
    return seen is not None and (seen.python, seen.libc) == (platform.python_version(), " ".join(platform.libc_ver()))


@pytest.mark.parametrize("run", [VENV, DOCKER, INTERRUPTED])
def test_it_is_shown(kept: Project, run: str) -> None:
    done = call("show", run, folder=kept.folder)
    assert (done.status, done.err) == (0, "")
    assert call("list", folder=kept.folder).out.count("-train-") == 3
    found = json.loads(call("show", run, "--json", folder=kept.folder).out)
    assert found["recipe"]["profile"] == {"instruction_set": "x86-64-v3", "name": "portable", "threads": 1}


def test_two_are_compared(kept: Project) -> None:
    """A virtual environment and a container: other software, and not one bit of the result."""
    done = call("diff", VENV, DOCKER, folder=kept.folder)
    assert done.status == 1
    assert "inputs recipe image.config: nothing ->" in done.out
    assert not [line for line in done.out.splitlines() if line.startswith("outputs") and "none differ" not in line]
    assert call("diff", VENV, VENV, folder=kept.folder).status == 0


def test_it_is_verified_by_its_own_source(kept: Project) -> None:
    """In an environment of its own lock; where the machine's Python is another one, that is named."""
    record = RunDir(kept.runs / VENV).read()
    assert str(record.result_digest) == RESULT
    level = "bitwise" if is_like_here(record) else "metrics"
    done = again(kept, VENV, "verify", "--goal", level)
    assert (done.status, done.out.splitlines()[-1].partition(":")[0]) == (0, "identical"), done.out + done.err
    trained = newest(kept)
    assert (trained.image / "source" / "samebits" / "container" / "training.py").is_file()
    assert not (trained.image / "source" / "samebits" / "runner").exists()
    assert str(trained.read().result_digest) == RESULT


def test_its_segments_are_verified(kept: Project) -> None:
    if not is_like_here(RunDir(kept.runs / VENV).read()):
        pytest.skip("segments are verified bit by bit, and another Python is another recipe")
    done = again(kept, VENV, "verify", "--segments")
    assert (done.status, done.out.splitlines()[-1]) == (0, "identical (2 of 2 segments)"), done.out + done.err


def test_it_is_resumed_from_its_checkpoint(kept: Project) -> None:
    """By its own source, to the result that the same recipe reaches uninterrupted."""
    interrupted = RunDir(kept.runs / INTERRUPTED)
    before = interrupted.ledger.read_bytes()
    done = again(kept, INTERRUPTED, "resume")
    if not is_like_here(interrupted.read()):
        assert done.status == 2
        assert "another Python is another recipe" in done.err or "computes otherwise" in done.err
        return
    assert done.status == 0, done.err
    assert "after 2 epochs" in done.err
    resumed = newest(kept)
    assert resumed.read().outcome.state == FINISHED
    assert resumed.ledger.read_bytes().startswith(before)
    assert (resumed.image / "source" / "samebits" / "container").is_dir()
    whole = again(kept, resumed.path.name, "verify")
    assert (whole.status, whole.out.splitlines()[-1].partition(":")[0]) == (0, "identical"), whole.out + whole.err


@pytest.fixture
def old_image(engine: str, kept: Project) -> Iterator[BuildPlan]:
    """How the container's image was built; what is built of it is forgotten afterwards."""
    assert engine
    run = RunDir(kept.runs / DOCKER)
    config = run.read().recipe.image.config
    assert config is not None
    yield BuildPlan.read(run.image / "image.json", OLD)
    for name in (OLD, f"samebits:rebuilt-{config.short}"):
        subprocess.run(["docker", "rmi", name], check=False, capture_output=True)


def rebuild(kept: Project) -> Done:
    """With time for a busy engine."""
    command = [*COMMAND, "rebuild", DOCKER]
    done = subprocess.run(command, cwd=kept.folder, capture_output=True, text=True, timeout=1500, check=False)
    return Done(status=done.returncode, out=done.stdout, err=done.stderr)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_its_image_is_rebuilt(kept: Project, old_image: BuildPlan) -> None:
    """To the very same bits where its base is here; where it is not, that is named, and the recipe builds all the same.

    The base is a stand-in made of Debian's packages, which another day are others.
    """
    base = Engine().find_image(old_image.base)
    done = rebuild(kept)
    if base is not None and base.id == str(old_image.base_digest):
        assert (done.status, done.out.split()[0]) == (0, "identical"), done.out + done.err
        verified = again(kept, DOCKER, "verify")
        assert (verified.status, verified.out.splitlines()[-1].partition(":")[0]) == (0, "identical"), (
            verified.out + verified.err
        )
        trained = newest(kept)
    else:
        assert done.status == 2
        assert f"the base image {old_image.base} is not here" in done.err or f"the base {old_image.base} is" in done.err
        trained = trained_on(default_base(), kept, old_image)
    assert (trained.image / "source" / "samebits" / "container" / "training.py").is_file()
    assert str(trained.read().result_digest) == RESULT


def trained_on(base: str, kept: Project, plan: BuildPlan) -> RunDir:
    """A training in an image that the kept recipe gives on another base."""
    engine = Engine()
    image = engine.find_image(base) or engine.pull(base)
    plan = replace(plan, base=base, base_digest=replace(plan.base_digest, hex=image.id.removeprefix("sha256:")))
    recipe = kept.folder / "recipe"
    shutil.copytree(kept.runs / DOCKER / "image", recipe)
    (recipe / "image.json").write_bytes(plan.manifest)
    fix_modes(recipe)
    build_from_context(engine, plan, recipe)
    settings = RunDir(kept.runs / VENV).read().environment.settings or ()
    asked = {item.name: item.asked for item in settings if item.name.isupper()}
    options = tuple(word for name, value in asked.items() for word in ("-e", f"{name}={value}"))
    done = plain_run(kept, "train.py", "--profile", "portable", "--keep", "all", options=options, image=OLD)
    assert done.status == 0, done.err
    return RunDir(kept.runs / Path(done.line("run")).name)
