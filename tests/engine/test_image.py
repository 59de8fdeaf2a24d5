"""What an image is a function of: a step that is left unnormalised is named, and a change moves what it must alone."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import ToolError
from samebits.host import subprocesses as process
from samebits.host.docker import Engine, Image
from samebits.host.image.build import (
    build_from_context,
    config_digest,
    context_folder,
    known_metadata,
    plan_build,
    require_image,
)
from samebits.host.image.build_context import CPU
from samebits.host.image.rebuild import Comparison, build_twice, compare
from support.command import ROOT, call
from support.images import COMPILING, OtherPin, small_kind

pytestmark = pytest.mark.usefixtures("engine")

_ONE = (
    f"{COMPILING} && /opt/samebits/venv/bin/python -m compileall -q -f --invalidation-mode timestamp"
    " /opt/samebits/venv/lib/python3*/site-packages/rich/box.py"
)


def _check(folder: Path, compiling: str) -> Comparison:
    """What `samebits build --check` finds."""
    engine = Engine()
    return build_twice(engine, plan_build(engine, small_kind(folder, compiling), tag="samebits-test:pyc"))


def test_every_pyc_is_normalised(tmp_path: Path) -> None:
    found = _check(tmp_path, COMPILING)
    assert found.identical
    assert found.differences == ()


def test_a_pyc_left_unnormalised(tmp_path: Path) -> None:
    found = _check(tmp_path, _ONE)
    assert not found.identical
    (named,) = found.differences
    place = r"layer \d+: /opt/samebits/venv/lib/python3\.\d+/site-packages/rich/__pycache__/box\.cpython-3\d+\.pyc"
    assert re.fullmatch(rf"{place} \(content\)", named)


def _moved(before: Image, after: Image) -> list[int]:
    """The layers that differ, counted from the end, as a base may have any number."""
    assert len(before.layers) == len(after.layers)
    pairs = enumerate(zip(before.layers, after.layers, strict=True), -len(before.layers))
    return [index for index, (one, other) in pairs if one != other]


_WHEELS, _RECIPE = -3, -1  # between them, the empty layer of WORKDIR


@pytest.mark.slow  # another image is built; test_rebuild compares images that differ in one step
def test_a_changed_pin_moves_the_wheels_and_the_recipe_that_holds_the_lock(other_pin: OtherPin) -> None:
    engine = Engine()
    ours, theirs = require_image(engine, CPU.tag), require_image(engine, other_pin.tag)
    assert _moved(ours, theirs) == [_WHEELS, _RECIPE]
    found = compare(engine, ours, theirs).differences
    wheels, recipe = (f"layer {len(ours.layers) + index}" for index in (_WHEELS, _RECIPE))
    package = rf"{wheels}: /opt/samebits/venv/lib/python3\.\d+/site-packages/{other_pin.name}\b.*"
    moved = [line for line in found if not re.fullmatch(package, line)]
    assert moved == [
        f"{recipe}: /opt/samebits/recipe/image.json (content)",
        f"{recipe}: /opt/samebits/recipe/lock/requirements.lock (content)",
    ]
    assert any(line.endswith(f"-{other_pin.new}.dist-info/METADATA (added)") for line in found)
    assert any(line.endswith(f"-{other_pin.old}.dist-info/METADATA (removed)") for line in found)


def test_a_build_shows_its_steps_and_its_seconds(tmp_path: Path) -> None:
    tag = "samebits-test:shown"
    started = time.monotonic()
    done = call("build", "--tag", tag, folder=tmp_path)
    seconds = time.monotonic() - started
    Engine().remove_image(tag)
    assert done.status == 0, done.err
    first, *steps, last = done.err.splitlines()
    assert re.fullmatch(rf"samebits: building {tag} on \S+ with the (engine's builder|builder \S+) \(.+\)", first)
    assert any(re.fullmatch(r"#\d+ (DONE \d+\.\ds|CACHED)", line) for line in steps)
    match = re.fullmatch(rf"samebits: built {tag} in (\d+\.\d) s", last)
    assert match
    assert float(match[1]) <= seconds


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of this checkout."""
    return Path(shutil.copytree(ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns(".*", "__pycache__", "runs")))


def _append(path: Path, line: str) -> None:
    path.write_text(f"{path.read_text()}{line}\n")


def _build(checkout: Path, tag: str) -> Image:
    """What another checkout makes of itself, without a look at what is there under this name."""
    subprocess.run(["docker", "rmi", tag], capture_output=True, check=False)
    command = [sys.executable, "-m", "samebits", "build", "--offline", "--tag", tag]
    variables = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    subprocess.run(command, cwd=checkout, env=variables, capture_output=True, check=True)
    image = require_image(Engine(), tag)
    Engine().remove_image(tag)
    return image


def test_what_an_image_is_not_made_of_changes_nothing(copy: Path) -> None:
    for name in (
        "README.md",
        "Makefile",
        "tests/engine/test_image.py",
        "examples/digits/train.py",
        "src/samebits/host/cli/parser.py",
    ):
        _append(copy / name, "# another line")
    (copy / "notes.txt").write_text("a new file")
    ours, theirs = require_image(Engine(), CPU.tag), _build(copy, "samebits-test:edited")
    assert _moved(ours, theirs) == []
    assert (theirs.id, theirs.labels) == (ours.id, ours.labels)


def test_an_edit_of_the_source_moves_the_last_layer(copy: Path) -> None:
    _append(copy / "src" / "samebits" / "core" / "errors.py", "# another line")
    ours, theirs = require_image(Engine(), CPU.tag), _build(copy, "samebits-test:edited")
    assert _moved(ours, theirs) == [_RECIPE]
    assert theirs.labels["samebits.source"] != ours.labels["samebits.source"]
    assert theirs.labels["samebits.lock"] == ours.labels["samebits.lock"]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Image]:
    """A small image of our own making, and a cache that knows nothing of it."""
    engine = Engine()
    plan = plan_build(engine, small_kind(tmp_path), tag="samebits-test:small")
    with context_folder(plan) as context:
        image = build_from_context(engine, plan, context)
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    yield image
    engine.remove_image(plan.tag)


def test_an_image_that_this_cache_did_not_see_built(tmp_path: Path, small: Image) -> None:
    shown = call("show", "--image", small.reference, folder=tmp_path)
    assert shown.status == 0, shown.err
    rows = dict(line.split(maxsplit=1) for line in shown.out.splitlines()[1:])
    assert rows["config"] == str(Engine().config_digest(small))
    assert rows["base"] == small.labels["org.opencontainers.image.base.digest"]
    assert (rows["lock"], rows["source"]) == (small.labels["samebits.lock"], small.labels["samebits.source"])


_DAMAGED = ["", "{", "[]", "7", '{"config": 7}', '{"config": "sha256:0"}']
_DAMAGED += [json.dumps({"config": f"sha256:{'0' * 64}", "builder": 7})]


def test_what_is_remembered_of_an_image_and_damaged(tmp_path: Path, small: Image) -> None:
    engine = Engine()
    config = engine.config_digest(small)
    path = tmp_path / "cache" / "images" / f"{small.id.removeprefix('sha256:')}.json"
    path.parent.mkdir(parents=True)
    for content in _DAMAGED:
        path.write_text(content)
        assert known_metadata(small) == {"layers": list(small.layers)}
    assert config_digest(engine, small) == config
    assert json.loads(path.read_bytes()) == {"config": str(config), "layers": list(small.layers)}
    assert known_metadata(small) == {"layers": list(small.layers), "config": str(config)}


@pytest.mark.parametrize(("failures", "there", "once_more"), [(1, False, 1), (2, False, 1), (1, True, 0)])
def test_an_image_that_could_not_be_unpacked(
    tmp_path: Path,
    small: Image,
    failures: int,
    there: bool,
    once_more: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The failure is made up, as nobody can call it forth; the builds are real. An older image tells nothing."""
    engine, plan = Engine(), plan_build(Engine(), small_kind(tmp_path), tag="samebits-test:unpacked")
    left = [None] * failures

    def run_tool(*args: Any, **kwargs: Any) -> str:
        output = process.run_tool(*args, **kwargs)
        if left:
            left.pop()
            raise ToolError("building it failed with status 1")
        return output

    try:
        with context_folder(plan) as context:
            if there:
                build_from_context(engine, plan, context)
            monkeypatch.setattr("samebits.host.image.build.run_tool", run_tool)
            if failures == once_more:
                assert build_from_context(engine, plan, context).id == small.id
            else:
                with pytest.raises(ToolError, match="failed with status 1; if the base"):
                    build_from_context(engine, plan, context)
    finally:
        engine.remove_image(plan.tag)
    assert capfd.readouterr().err.count("could not be unpacked; trying again") == once_more
