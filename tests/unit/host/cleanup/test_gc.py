"""`samebits gc`: what is old and can be made again goes; what a run needs, or a program uses, stays."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.digest import Digest
from samebits.core.environment import Environment
from samebits.core.errors import StorageError
from samebits.core.record import Record, write_record
from samebits.core.run_dir import MARKER, RunDir
from samebits.host.cache_dir import UNPACKED, cache_folder, exclusive
from samebits.host.cleanup import engine_items
from samebits.host.cleanup.cache_items import cache_items, running_programs
from samebits.host.cleanup.item import Item, Selection, age_text, disk_size, size_text
from samebits.host.cleanup.plan import CleanupRequest, plan_cleanup, remove_items
from samebits.host.cleanup.run_needs import RunNeeds, known_folders, read_needs
from samebits.host.launch.venv import locks_name
from samebits.host.run_folders import note_folder, noted_folders
from support.command import Done, call
from support.fake_runner import Played, played

__all__ = ["played"]

DAY = 86_400
PIPES: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
OLD = time.time() - 90 * DAY


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and no engine."""
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    return tmp_path / "cache"


def environment(name: str, used: float = OLD) -> Path:
    folder = cache_folder("venvs") / name
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_bytes(b"x" * 10_000)
    lock = folder.with_name(f".{name}.lock")
    lock.touch()
    os.utime(lock, (used, used))
    return folder


def make_run(runs: Path, record: Record, name: str = "20261120T060000Z-train-0123abcd") -> RunDir:
    run = RunDir(runs / name)
    run.path.mkdir(parents=True)
    (runs / MARKER).touch()
    write_record(run.record, replace(record, id=name, environment=Environment(runtime="venv")))
    return run


def items(needs: RunNeeds | None = None, processes: str = "") -> dict[str, Item]:
    return {item.name: item for item in cache_items(needs or RunNeeds(), processes)}


def gc(folder: Path, *options: str) -> Done:
    return call("gc", *options, folder=folder)


def test_what_is_chosen() -> None:
    item = Item(kind="k", name="n", size=1, used=1000.0, remove=lambda: None)
    old, young = Selection(unused_for=100, now=1200), Selection(unused_for=300, now=1200)
    assert (old.why_kept(item), young.why_kept(item)) == ("", "used lately")
    needed, busy = replace(item, needed="needed by x"), replace(item, busy="a program uses it", needed="needed by x")
    assert (old.why_kept(needed), old.why_kept(busy)) == ("needed by x", "a program uses it")
    everything = Selection(unused_for=0, needed=True, now=1200)
    assert (everything.why_kept(needed), everything.why_kept(busy)) == ("", "a program uses it")
    unknown = replace(item, used=None)
    assert old.why_kept(unknown).startswith("its last use is unknown")
    assert everything.why_kept(unknown) == ""


def test_an_environment_that_a_run_needs(tmp_path: Path, example: Record) -> None:
    image = example.recipe.image
    digests = [image.lock, *([] if image.packages is None else [image.packages])]
    needed, other = (environment(f"{name}-cp311-0") for name in (locks_name(digests), "0123456789abcdef"))
    run = make_run(tmp_path / "runs", example)
    done = gc(tmp_path, "--yes")
    assert done.status == 0
    assert (needed.exists(), other.exists()) == (True, False)
    assert f"stays: needed by {run.path.name}" in done.out
    assert done.out.splitlines()[-1].startswith(f"removed virtual environment {other.name} (")
    # Only where it is asked for, and with the run's name.
    done = gc(tmp_path, "--yes", "--also-needed")
    assert f"goes; needed by {run.path.name}; made again from its lock, with network" in done.out
    assert not needed.exists()


def test_an_unpacked_image() -> None:
    folder = cache_folder(UNPACKED) / ("0" * 64)
    (folder / "rootfs").mkdir(parents=True)
    folder.with_name(f".{folder.name}.lock").touch()
    needs = RunNeeds(images={f"sha256:{folder.name}": ["a-run"]})
    assert items(needs)["0" * 16].needed == "needed by a-run"
    # As Apptainer's own process has it in a variable.
    busy = items(processes=f'"image":"{folder}/rootfs"')["0" * 16]
    assert busy.busy == "a running program uses it"
    items()["0" * 16].remove()
    assert not folder.exists()


def test_nobody_is_asked(tmp_path: Path) -> None:
    folder = environment("0123456789abcdef-cp311-0")
    done = gc(tmp_path)
    assert done.status == 2
    assert done.err.splitlines()[-1].endswith("nothing was removed; add --yes to remove, or --dry-run to only list")
    assert gc(tmp_path, "--dry-run").status == 0
    assert gc(tmp_path, "--dry-run", "--yes").status == 2
    assert folder.exists()
    assert gc(tmp_path, "--yes", "--unused-for", "91d").status == 0
    assert folder.exists()
    assert gc(tmp_path, "--unused-for", "soon").complaint.startswith("'soon' is no age; write a number with its unit")


def test_the_list_as_json(tmp_path: Path, example: Record) -> None:
    environment("0123456789abcdef-cp311-0")
    run = make_run(tmp_path / "runs", example)
    found = json.loads(gc(tmp_path, "--json", "--dry-run").out)
    assert [item["kind"] for item in found["free"]] == ["virtual environment"]
    assert [item["folder"] for item in found["runs"]] == [f"runs/{run.path.name}"]
    assert found["asked"] == [str(tmp_path / "runs")]


def test_an_environment_in_which_something_runs() -> None:
    folder = environment("0123456789abcdef-cp311-0")
    command = [sys.executable, "-c", "print(flush=True); input()", f"{folder}/bin/python"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        # Just after it was started, the kernel does not know its command line yet.
        process.stdout.readline()
        found = items(processes=running_programs())[folder.name]
        process.communicate()
    assert found.busy == "a running program uses it"
    assert items(processes=running_programs())[folder.name].busy == ""


def test_what_was_used_since_it_was_listed_stays(cache: Path) -> None:
    """The user may have been asked for minutes, and a training may just begin."""
    kept = [environment("0123456789abcdef-cp311-0"), cache_folder("received") / "a", cache / "inputs" / "trees" / "b"]
    for folder in kept[1:]:
        cache_folder("inputs")
        folder.mkdir(parents=True)
        folder.with_name(f".{folder.name}.lock").touch()
        os.utime(folder.with_name(f".{folder.name}.lock"), (OLD, OLD))
    found = items()
    for folder in kept:
        with exclusive(folder.parent, folder.name):
            pass
    for item in found.values():
        with pytest.raises(StorageError, match=r"^it was used since it was listed; list again$"):
            item.remove()
    assert [folder.exists() for folder in kept] == [True, True, True]
    for item in items().values():
        item.remove()
    assert [folder.exists() for folder in kept] == [False, False, False]


def test_what_a_program_began_to_use_stays() -> None:
    """Also where its last use is unknown: it took no lock."""
    folder = environment("0123456789abcdef-cp311-0")
    item = items()[folder.name]
    with subprocess.Popen([sys.executable, "-c", "print(1, flush=True); input()", f"{folder}/x"], **PIPES) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StorageError, match=r"^it was used since it was listed"):
            item.remove()
        process.communicate(b"\n")
    assert folder.exists()
    item.remove()
    assert not folder.exists()


def test_other_folders_of_runs(tmp_path: Path, example: Record) -> None:
    """What this machine trained outside of a container is noted, wherever its runs lie."""
    elsewhere = make_run(tmp_path / "elsewhere" / "runs", example)
    (cache_folder("trained") / "x.json").write_text(json.dumps({"run": str(elsewhere.path)}))
    (cache_folder("trained") / "y.json").write_text("{")
    folders = known_folders(tmp_path / "runs")
    assert folders == [tmp_path / "runs", tmp_path / "elsewhere" / "runs"]
    assert [elsewhere.path.name] in read_needs(folders).environments.values()


def test_a_folder_is_noted_once_and_for_good(tmp_path: Path, example: Record) -> None:
    """Whatever the runtime, by whatever path; another folder with a run of the same recipe does not replace it."""
    folders = [make_run(tmp_path / name / "runs", example).path.parent for name in ("a", "b")]
    (tmp_path / "link").symlink_to(folders[0])
    for folder in (*folders, folders[0], tmp_path / "link"):
        note_folder(folder)
    assert known_folders(tmp_path / "runs") == [tmp_path / "runs", *folders]
    assert known_folders(tmp_path / "link") == [tmp_path / "link", folders[1]]
    (folders[1] / MARKER).unlink()
    assert known_folders(folders[0]) == [folders[0]]


def test_each_training_notes_its_folder(tmp_path: Path, played: Played) -> None:
    run = played.train()
    for note in cache_folder("trained").iterdir():
        note.unlink()  # a run in a container has none
    assert known_folders(tmp_path / "other") == [tmp_path / "other", run.path.absolute().parent]


def test_a_note_never_fails_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cache in (tmp_path / "a file" / "cache", tmp_path / ("x" * 300), Path("~nobody-of-this-name")):
        (tmp_path / "a file").touch()
        monkeypatch.setenv("SAMEBITS_CACHE", str(cache))
        note_folder(tmp_path / "runs")
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    note_folder(tmp_path / os.fsdecode(b"\xff"))
    assert noted_folders() == {tmp_path / os.fsdecode(b"\xff")}


def test_a_record_that_cannot_be_read_is_reported(
    tmp_path: Path, example: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, example).record.unlink()
    (tmp_path / "20261120T060000Z-train-0123abcd" / "record.json").write_text("{")
    assert read_needs([tmp_path]) == RunNeeds()
    assert capsys.readouterr().err.endswith("; what this run needs is not known\n")


@pytest.fixture
def wheels(cache: Path) -> tuple[Path, Path]:
    """Two locks that share a wheel, and have one each."""
    assert cache
    folders = [cache_folder("wheelhouse") / f"{name * 16}-cp313" for name in "ab"]
    for folder, names in zip(folders, (("shared", "one"), ("shared", "two")), strict=True):
        folder.mkdir()
        for name in names:
            stored = cache_folder("wheels") / name / f"{name}.whl"
            stored.parent.mkdir(exist_ok=True)
            if not stored.exists():
                stored.write_bytes(b"x" * 5000)
            os.link(stored, folder / stored.name)
    return folders[0], folders[1]


def test_wheels_that_another_lock_has_stay(wheels: tuple[Path, Path]) -> None:
    items()[wheels[0].name].remove()
    assert sorted(path.name for path in cache_folder("wheels").rglob("*.whl")) == ["shared.whl", "two.whl"]
    assert not wheels[0].exists()
    assert (wheels[1] / "shared.whl").stat().st_nlink == 2
    needs = RunNeeds(locks={"b" * 16: ["run"]})
    assert items(needs)[wheels[1].name].needed == "needed by run"


def test_wheels_of_no_lock(wheels: tuple[Path, Path]) -> None:
    for path in wheels[0].iterdir():
        path.unlink()
    items()["1 file"].remove()
    assert sorted(path.name for path in cache_folder("wheels").rglob("*.whl")) == ["shared.whl", "two.whl"]


def test_inputs_go_with_the_last_lock_that_names_them(cache: Path) -> None:
    objects, trees = (cache_folder("inputs") / name for name in ("objects", "trees"))
    for folder in (objects, *(trees / (name * 64) for name in "ab")):
        folder.mkdir(parents=True)
    for name, of in (("shared", "ab"), ("one", "a"), ("none", "")):
        (objects / name).write_bytes(b"x")
        for tree in of:
            os.link(objects / name, trees / (tree * 64) / name)
    found = items(RunNeeds(inputs={"a" * 64: ["run"]}))
    assert (found["a" * 16].needed, found["b" * 16].needed) == ("needed by run", "")
    found["b" * 16].remove()
    assert sorted(os.listdir(objects)) == ["none", "one", "shared"]
    items()["1 file"].remove()
    items()["a" * 16].remove()
    assert os.listdir(objects) == []
    assert cache.exists()


def test_an_archived_base_is_never_old() -> None:
    archive = cache_folder("bases") / "x.tar"
    archive.touch()
    assert items()["x.tar"].needed == "made by `samebits archive-base`"


def test_unfinished_work_of_today_stays() -> None:
    for name in (".draft-a", ".draft-removed-b"):
        (cache_folder("venvs") / name).mkdir()
    assert items() == {}


def test_what_cannot_be_removed_does_not_stop_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    gone: list[str] = []

    def fail() -> None:
        raise PermissionError(13, "Permission denied")

    both = [
        Item(kind="k", name="a", size=1000, used=0.0, remove=fail),
        Item(kind="k", name="b", size=2000, used=0.0, remove=lambda: gone.append("b")),
    ]
    with pytest.raises(StorageError, match=r"^1 item could not be removed"):
        remove_items(both)
    assert gone == ["b"]
    assert capsys.readouterr().out == "removed k b (2.0 kB; 2 of 2, 1.0 kB left)\n"


def test_an_interrupted_removal_of_a_run_is_finished(tmp_path: Path) -> None:
    left = tmp_path / "runs" / ".removed-x-1"
    left.mkdir(parents=True)
    plan = plan_cleanup(tmp_path / "runs", CleanupRequest(unused_for=30 * DAY))
    assert [item.name for item in plan.free] == [left.name]
    remove_items(plan.free)
    assert not left.exists()


@pytest.mark.parametrize("answer", ["no JSON", "{}", "[1]", '[{"id": "x"}]', "[" * 100_000])
@pytest.mark.parametrize("asked", ["inspect", "df"])
def test_a_command_that_is_not_dockers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: str, answer: str
) -> None:
    """Images are left out with a message; the rest of the cleanup goes on."""

    def run_tool(command: list[str], **_: object) -> str:
        return answer if asked in command else "[]" if "df" in command else '[{"Id": "x", "RepoTags": ["a", "b"]}]'

    monkeypatch.setattr(engine_items, "run_tool", run_tool)
    assert list(engine_items.engine_items(RunNeeds(), 0)) == []
    assert "images and build caches are left out: the docker command did not answer as" in capsys.readouterr().err


def test_sizes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert 100_000 <= disk_size(tmp_path) < 130_000
    assert [size_text(size) for size in (0, 999, 1_500, 2.5e9, 3e15)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.5 GB",
        "3000.0 TB",
    ]
    assert [age_text(used, 10 * DAY) for used in (None, 9.5 * DAY, 0.0)] == ["unknown", "today", "10 d ago"]
    assert [engine_items._bytes(text) for text in ("2.5GB", "12kB", "0B", "N/A", None)] == [
        2_500_000_000,
        12_000,
        0,
        0,
        0,
    ]


def test_a_name_of_a_lock() -> None:
    one, two = Digest.of_bytes(b"1"), Digest.of_bytes(b"2")
    assert locks_name([one]) == one.hex[:16]
    assert locks_name([one, two]) == Digest.of_json([str(one), str(two)]).hex[:16]


def test_the_index_of_a_folder_of_runs(tmp_path: Path, example: Record) -> None:
    make_run(tmp_path / "runs", example)
    assert call("list", folder=tmp_path).status == 0
    (index,) = cache_folder("lists").iterdir()
    assert items()[index.name].again == "made again by `samebits list`"
    items()[index.name].remove()
    assert not index.exists()
