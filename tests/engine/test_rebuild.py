"""Images again: from what a run keeps, beside the recorded one, and on a base that only an archive still has."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import ImageError
from samebits.core.recipe import ImageIdentity
from samebits.core.record import read_record
from samebits.host.cli.printing import print_comparison
from samebits.host.docker import Engine, Image
from samebits.host.image.base_image import default_base, provide_base
from samebits.host.image.build import BuildPlan, context_folder, plan_build
from samebits.host.image.build_context import CPU, source_digest
from samebits.host.image.rebuild import Comparison, check_context, compare
from support.command import DATA, Project, call
from support.images import plain_run

pytestmark = pytest.mark.usefixtures("engine")


def _docker(*words: str | Path) -> None:
    subprocess.run(["docker", *words], check=True, capture_output=True)


def _forget(*names: str) -> None:
    """Take names from images, as far as they are there."""
    for name in names:
        subprocess.run(["docker", "rmi", name], check=False, capture_output=True)


def _flip(path: Path) -> None:
    """Change one byte, and nothing else."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


_SPOILED = [
    ("lock/requirements.lock", "the lock in {run}/image/lock/requirements.lock is not the recorded one: "),
    ("source/samebits/core/digest.py", "the source or Dockerfile in {run}/image is not the recorded one: "),
    ("source/samebits/runner/digests/tensors.py", "the source or Dockerfile in {run}/image is not the recorded one: "),
    ("Dockerfile", "the source or Dockerfile in {run}/image is not the recorded one: "),
]


def test_a_run_keeps_what_its_image_is_rebuilt_from(in_docker: Project) -> None:
    done = in_docker.train()
    assert done.status == 0, done.err
    run = in_docker.folder / done.run
    record = read_record(run / "record.json")
    assert Digest.of_file(run / "image" / "lock" / "requirements.lock") == record.recipe.image.lock
    manifest = json.loads((run / "image" / "image.json").read_bytes())
    assert {name: manifest[name] for name in ("base", "lock", "source")} == {
        "base": str(record.recipe.image.base),
        "lock": str(record.recipe.image.lock),
        "source": str(record.recipe.image.source),
    }
    check_context(
        run / "image", BuildPlan.read(run / "image" / "image.json", "samebits-test:none"), record.recipe.image
    )

    for name, complaint in _SPOILED:  # before any build, so each takes a moment
        path = run / "image" / name
        whole = path.read_bytes()
        _flip(path)
        spoiled = call("rebuild", "last", folder=in_docker.folder)
        path.write_bytes(whole)
        assert (spoiled.status, spoiled.out) == (2, "")
        assert spoiled.complaint.startswith(complaint.format(run=done.run))
        assert re.search(r": found sha256:[0-9a-f]{64}, recorded sha256:[0-9a-f]{64}$", spoiled.complaint)


@pytest.mark.slow  # `verify` rebuilds an image that is gone, in test_verify
def test_an_image_is_rebuilt_from_a_run(in_docker: Project) -> None:
    assert in_docker.train().status == 0
    record = in_docker.only_run()
    config = record.recipe.image.config
    assert config is not None
    try:
        rebuilt = call("rebuild", "last", folder=in_docker.folder)
    finally:
        _forget(f"samebits:rebuilt-{config.short}")
    assert rebuilt.status == 0, rebuilt.err
    assert rebuilt.out == f"identical {config} {config}\n"
    assert in_docker.only_run() == record


def _plan(tag: str = "samebits-test:none") -> BuildPlan:
    return BuildPlan(
        kind=CPU,
        tag=tag,
        base="samebits-test:base",
        base_digest=Digest.of_bytes(b"base"),
        lock=CPU.lock_digest,
        source=source_digest(CPU),
    )


def test_check_context_names_both_digests() -> None:
    plan = _plan()
    recorded = ImageIdentity(lock=plan.lock, source=plan.source, base=plan.base_digest)
    with context_folder(plan) as context:
        assert BuildPlan.read(context / "image.json", plan.tag) == plan
        check_context(context, plan, recorded)
        lock = context / "lock" / "requirements.lock"
        whole = lock.read_bytes()
        _flip(lock)
        with pytest.raises(ImageError) as caught:
            check_context(context, plan, recorded)
        assert str(caught.value) == (
            f"the lock in {lock} is not the recorded one: found {Digest.of_file(lock)}, recorded {CPU.lock_digest}"
        )
        lock.write_bytes(whole)
        (context / "source" / "samebits" / "more.py").touch()
        with pytest.raises(ImageError, match=r"^the source or Dockerfile in .* is not the recorded one: "):
            check_context(context, plan, recorded)


@pytest.mark.parametrize("field", ["lock", "source", "base"])
def test_check_context_reads_what_the_manifest_says(field: str) -> None:
    plan = _plan()
    recorded = ImageIdentity(lock=plan.lock, source=plan.source, base=plan.base_digest)
    wanted, other = getattr(recorded, field), Digest.of_bytes(b"other")
    with context_folder(plan) as context:
        manifest = context / "image.json"
        manifest.write_text(manifest.read_text().replace(str(wanted), str(other)))
        with pytest.raises(ImageError) as caught:
            check_context(context, BuildPlan.read(manifest, plan.tag), recorded)
    assert str(caught.value) == f"the {field} in {manifest} is not the recorded one: found {other}, recorded {wanted}"


def test_a_comparison_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """As `samebits build --check --json` prints it."""
    one, other = Digest.of_bytes(b"one"), Digest.of_bytes(b"other")
    assert print_comparison(Comparison(wanted=one, found=one), as_json=True) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"identical": True, "wanted": str(one), "found": str(one), "differences": []}
    assert print_comparison(Comparison(wanted=one, found=other, differences=("a", "b")), as_json=True) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"identical": False, "wanted": str(one), "found": str(other), "differences": ["a", "b"]}


@pytest.mark.parametrize(
    "spoil",
    [
        shutil.rmtree,
        lambda image: (image / "lock" / "requirements.lock").unlink(),
        lambda image: (image / "Dockerfile").unlink(),
        lambda image: (image / "image.json").write_bytes(b"{"),
    ],
    ids=["all", "lock", "Dockerfile", "image.json"],
)
def test_a_recipe_that_is_not_whole(project: Project, spoil: Callable[[Path], object]) -> None:
    """As of a run that was stopped before it copied the recipe."""
    run = project.runs / "20260801T101500Z-train-bba4ec6d"
    run.mkdir(parents=True)
    shutil.copy(DATA / "record-1.0.json", run / "record.json")
    with context_folder(_plan()) as context:
        shutil.copytree(context, run / "image")
    spoil(run / "image")
    done = call("rebuild", "last", folder=project.folder)
    assert (done.status, done.out) == (2, "")
    assert str(Path("runs", run.name, "image")) in done.complaint


def test_runs_without_an_image_digest(in_docker: Project) -> None:
    in_docker.write("print('nothing')\n")
    in_docker.runs.mkdir()
    assert plain_run(in_docker, "train.py").status == 0
    in_docker.runtime = "venv"
    assert in_docker.train().status == 0
    records = [read_record(path) for path in sorted(in_docker.runs.glob("*/record.json"))]
    assert {record.environment.runtime for record in records} == {"docker", "venv"}
    for record in records:
        done = call("rebuild", record.id, folder=in_docker.folder)
        assert (done.status, done.out) == (2, "")
        assert done.err.count("\n") == 1
        assert done.complaint == (
            f"the record of {record.id} names no image digest (a virtual environment, or a plain `docker run`); there"
            " is nothing to compare a rebuilt image with"
        )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds nothing yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SAMEBITS_CACHE", str(folder))
    return folder


@pytest.fixture
def build(tmp_path: Path, cache: Path) -> Iterator[Callable[..., Image]]:
    """Build a small image from a Dockerfile's text and the folder `context`."""
    assert not cache.exists()
    names: list[str] = []
    (tmp_path / "context").mkdir()

    def make(dockerfile: str) -> Image:
        name = f"samebits-test:small-{len(names)}"
        names.append(name)
        (tmp_path / "Dockerfile").write_text(dockerfile)
        options = ("--load", "--provenance=false", "--no-cache", "--tag", name, "--file", tmp_path / "Dockerfile")
        _docker("buildx", "build", *options, tmp_path / "context")
        image = Engine().find_image(name)
        assert image is not None
        return image

    yield make
    _forget(*names)


def test_two_images_that_differ_in_one_step(build: Callable[..., Image]) -> None:
    text = f"FROM {default_base()}\nRUN date +%N > /stamp && touch -d @1700000000 /stamp\n"
    one, other = build(text), build(text)
    found = compare(Engine(), one, other)
    assert not found.identical
    assert (found.wanted, found.found) == (Engine().config_digest(one), Engine().config_digest(other))
    last = len(one.layers) - 1
    assert [line for line in found.differences if "/stamp" in line] == [f"layer {last}: /stamp (content)"]
    assert all(line.startswith(f"layer {last}: /") for line in found.differences)


def test_what_can_differ(build: Callable[..., Image], tmp_path: Path) -> None:
    """Every fact of a file is named, and none that is equal."""
    context = tmp_path / "context"

    def fill(*, second: bool) -> None:
        for path in context.iterdir():
            path.unlink()
        for name in ("same", "content", "mode", "time", "removed" if not second else "added"):
            (context / name).write_text(name)
            os.utime(context / name, (1_700_000_000,) * 2)
        (context / "link").symlink_to("there" if second else "here")
        os.utime(context / "link", (1_700_000_000,) * 2, follow_symlinks=False)
        (context / "type").write_text("")
        os.utime(context / "type", (1_700_000_000,) * 2)
        if second:
            (context / "content").write_text("CONTENT")
            os.utime(context / "content", (1_700_000_000,) * 2)
            (context / "mode").chmod(0o755)
            os.utime(context / "time", (1_700_000_001,) * 2)

    fill(second=False)
    one = build("FROM scratch\nCOPY same /same\nCOPY . /d/\n")
    fill(second=True)
    other = build("FROM scratch\nCOPY same /same\nCOPY --chown=7:8 type /d/type\n")
    again = build("FROM scratch\nCOPY same /same\nCOPY . /d/\n")
    differences = [
        line for line in compare(Engine(), one, again).differences if " /d/ " not in line and "/d (" not in line
    ]
    assert differences == [
        "layer 1: /d/added (added)",
        "layer 1: /d/content (content)",
        "layer 1: /d/link (link)",
        "layer 1: /d/mode (mode)",
        "layer 1: /d/removed (removed)",
        "layer 1: /d/time (time)",
    ]
    assert "layer 1: /d/type (owner, group)" in compare(Engine(), one, other).differences


def test_images_that_differ_in_nothing_or_settings_or_layers(build: Callable[..., Image], tmp_path: Path) -> None:
    (tmp_path / "context" / "same").write_text("same")
    os.utime(tmp_path / "context" / "same", (1_700_000_000,) * 2)
    one = build("FROM scratch\nCOPY same /same\n")
    labelled = build("FROM scratch\nCOPY same /same\nLABEL a=b\n")
    longer = build("FROM scratch\nCOPY same /same\nCOPY same /again\n")
    engine = Engine()
    same = compare(engine, one, one)
    assert same.identical
    assert same.differences == ()
    assert compare(engine, one, labelled).differences == ("configuration: settings or labels",)
    assert compare(engine, one, longer).differences == ("number of layers: 1, 2",)


_BASE = "samebits-test:base"


@pytest.fixture
def archived(tmp_path: Path, cache: Path) -> Iterator[Digest]:
    """The digest of a base that the engine has lost and the cache keeps."""
    _docker("tag", default_base(), _BASE)
    try:
        digest = plan_build(Engine(), CPU, tag="samebits-test:none", base=_BASE).base_digest
        done = call("archive-base", "--base", _BASE, folder=tmp_path)
        assert (done.status, done.err) == (0, "")
        (path,) = (cache / "bases").glob("*.tar")
        assert done.out == f"base {path}\n"
        _docker("rmi", _BASE)
        yield digest
    finally:
        _forget(_BASE)


def test_a_base_from_its_archive(archived: Digest, capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    engine = Engine()
    assert engine.find_image(_BASE) is None
    assert provide_base(engine, _BASE, archived) == _BASE
    assert capsys.readouterr().err == f"samebits: loading the base {_BASE} from its archive\n"
    found = engine.find_image(_BASE)
    assert found is not None
    assert found.id == str(archived)
    assert provide_base(engine, _BASE, archived) == _BASE
    assert capsys.readouterr().err == ""

    _docker("tag", "samebits:cpu", _BASE)
    other = engine.find_image(_BASE)
    assert other is not None
    assert other.id != found.id
    with pytest.raises(ImageError) as caught:
        provide_base(engine, _BASE, archived)
    assert str(caught.value) == f"the base {_BASE} is {other.id}, not {archived}; restore that one"

    _forget(_BASE)
    (path,) = (cache / "bases").glob("*.tar")
    whole = path.stat().st_size
    for length in (whole, whole // 3):
        _flip(path)
        os.truncate(path, length)
        with pytest.raises(ImageError) as broken:
            provide_base(engine, _BASE, archived)
        assert str(broken.value) == (
            f"the archive {path} of the base {_BASE} is damaged; remove it, or archive the base again"
        )
        assert engine.find_image(_BASE) is None

    path.unlink()
    with pytest.raises(ImageError) as gone:
        provide_base(engine, _BASE, archived)
    assert (
        str(gone.value) == f"neither the base image {_BASE} nor an archive of it is here; see `samebits archive-base`"
    )


def test_an_archive_of_another_base(archived: Digest) -> None:
    """The archive is whole, and still not what the plan names: the name was another image's by then."""
    wanted = Digest.of_bytes(b"another")
    with pytest.raises(ImageError) as caught:
        provide_base(Engine(), _BASE, wanted)
    assert str(caught.value) == f"the base {_BASE} is {archived}, not {wanted}; restore that one"


def test_a_base_that_is_not_here(tmp_path: Path, cache: Path) -> None:
    done = call("archive-base", "--base", "samebits-test:absent", folder=tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.complaint == (
        "the engine has no base image samebits-test:absent; make it with `make base-image`, or name it by its digest"
    )
    done = call("build", "--base", "samebits-test:absent", folder=tmp_path)
    assert done.status == 2
    assert done.complaint == (
        "the engine has no base image samebits-test:absent; name one by digest, or make one with `make base-image`"
        " and name it with --base"
    )
    assert not list(cache.rglob("*.tar"))
    pinned = f"python@sha256:{'0' * 64}"
    assert provide_base(Engine(), pinned, Digest("0" * 64)) == pinned  # the builder pulls it, and checks its digest


def test_an_image_that_is_up_to_date(tmp_path: Path) -> None:
    started = time.monotonic()
    done = call("build", folder=tmp_path)
    assert time.monotonic() - started < 30
    assert (done.status, done.err) == (0, "samebits: samebits:cpu is up to date\n")
    image = Engine().find_image("samebits:cpu")
    assert image is not None
    config = Engine().config_digest(image)
    assert done.out == f"image samebits:cpu {config}\n"
    printed = json.loads(call("build", "--json", folder=tmp_path).out)
    assert printed == {
        "tag": "samebits:cpu",
        "id": image.id,
        "config": str(config),
        "base": image.labels["org.opencontainers.image.base.digest"],
        "lock": str(CPU.lock_digest),
        "source": str(source_digest(CPU)),
    }
