"""The cache of data digests: what it must notice, what it must not keep, and that its use is named."""

import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.file_tree import Tree
from samebits.core.known_digests import DATA_CHANGED, CacheUse, stamp_of
from samebits.core.liveness import file_system
from samebits.core.record import FAILED, Outcome, Record, write_record
from samebits.core.run_config import RunConfig, make_config
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import PlannedRun, RunSetup, hash_data, plan_run, publish
from samebits.host import data_cache
from samebits.host.data_cache import forget_wrong_data, hash_data_by_cache
from samebits.host.runs.show import show_run
from support.command import call

ROOT = Path(__file__).parents[3]
FILES = 30


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the caches. Changes count as past at once, and no sample is taken: nothing else may notice."""
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data_cache, "_SETTLED_NS", -60_000_000_000)
    monkeypatch.setattr(data_cache, "_MIN_CHECKED", 0)
    monkeypatch.setattr(data_cache, "_CHECKED_PART", 0.0)
    return tmp_path / "cache" / "data"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    if file_system(tmp_path) not in data_cache._KEEPS_TIMES:
        pytest.skip("the temporary folder is on a file system on which nothing is kept")
    (folder / "a").mkdir(parents=True)
    for number in range(FILES):
        (folder / "a" / f"{number:02}.txt").write_text(f"{number:04}")
    (folder / "empty").mkdir()
    return folder


def used(tree: Tree) -> int:
    return 0 if tree.cached is None else tree.cached.files


@pytest.mark.usefixtures("cache")
def test_nothing_is_read_twice(data: Path) -> None:
    first = hash_data_by_cache(data)
    assert (first, first.cached) == (hash_data(data), None)
    second = hash_data_by_cache(data)
    assert (second, second.cached) == (first, CacheUse(files=FILES, checked=0))
    assert second.manifest == first.manifest
    # By the file, not by its name.
    (data / "a").rename(data / "b")
    assert hash_data_by_cache(data).cached == second.cached
    assert hash_data_by_cache(data) == hash_data(data)


def restore_times(path: Path, at: os.stat_result) -> None:
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))


def edit(path: Path) -> None:
    path.write_text("edit")


def replace_file(path: Path) -> None:
    """The inode is free then, and the next file usually gets it."""
    path.unlink()
    path.write_text("edit")


def rename_over(path: Path) -> None:
    path.with_name("draft").write_text("edit")
    path.with_name("draft").rename(path)


def write_mapped(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 4) as content:
        content[:] = b"edit"


def link_elsewhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("01.txt")


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("change", [edit, replace_file, rename_over, write_mapped, link_elsewhere])
def test_a_change_of_the_same_size_with_the_old_time(data: Path, change: "object") -> None:
    """The time of the last change (ctime) gives it away."""
    path = data / "a" / "00.txt"
    first, at = hash_data_by_cache(data), path.stat()
    time.sleep(0.02)  # longer than a tick of the kernel's clock
    change(path)  # type: ignore[operator]
    restore_times(path, at)
    second = hash_data_by_cache(data)
    assert second != first
    assert second == hash_data(data)


@pytest.mark.usefixtures("cache")
def test_what_changed_just_now_is_not_kept(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change within the step of the file system's clock would not be seen."""
    monkeypatch.setattr(data_cache, "_SETTLED_NS", 60_000_000_000)
    hash_data_by_cache(data)
    assert used(hash_data_by_cache(data)) == 0


@pytest.mark.usefixtures("cache")
def test_a_clock_that_was_set_back(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file from the future may be changed again at the very time that it has."""
    monkeypatch.setattr(data_cache, "_SETTLED_NS", 2_000_000_000)
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 3_600_000_000_000)
    hash_data_by_cache(data)
    assert used(hash_data_by_cache(data)) == 0


@pytest.mark.parametrize(("age", "kept"), [(0, False), (1_999_999_999, False), (2_000_000_001, True)])
def test_coarse_times(tmp_path: Path, age: int, kept: bool) -> None:
    """Times of whole seconds, or of two, are too old only after that."""
    (tmp_path / "file").touch()
    at = os.stat(tmp_path / "file")
    last = max(at.st_mtime_ns, at.st_ctime_ns)
    assert data_cache._is_reliable(stamp_of(at), at.st_dev, last + age) == kept
    assert not data_cache._is_reliable(stamp_of(at), at.st_dev + 1, last + age), "of another device"


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("closed", [False, True])
def test_a_file_that_is_mapped_for_writing(data: Path, closed: bool) -> None:
    """Its later changes move no time: so it is never kept."""
    path = data / "a" / "00.txt"
    file = path.open("r+b")
    content = mmap.mmap(file.fileno(), 4)
    if closed:
        file.close()
    content[0:1] = b"x"
    stamp = stamp_of(path.stat())
    assert used(hash_data_by_cache(data)) == 0
    time.sleep(0.02)
    content[0:1] = b"y"
    assert stamp_of(path.stat()) == stamp, "this kernel shows the change"
    again = hash_data_by_cache(data)
    assert (again, used(again)) == (hash_data(data), FILES - 1)
    content.close()
    file.close()


def test_a_wrong_digest_is_found_by_the_sample(
    data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cache is thrown away, the file named, and all is read."""
    poison(data, cache, range(FILES))
    monkeypatch.setattr(data_cache, "_MIN_CHECKED", 1)
    found = hash_data_by_cache(data)
    assert (found, found.cached) == (hash_data(data), None)
    assert "the data cache is wrong about a/" in capsys.readouterr().err
    assert list(cache.iterdir()) == []


def poison(data: Path, cache: Path, numbers: range) -> None:
    """Have the cache hold wrong digests of some files, as if each had changed without a trace."""
    hash_data_by_cache(data)
    (path,) = cache.iterdir()
    known = data_cache._read(path)
    wrong = {stamp_of((data / "a" / f"{number:02}.txt").stat()) for number in numbers}
    body = b"".join(stamp + (bytes(32) if stamp in wrong else sha256) for stamp, sha256 in known.items())
    head = data_cache._HEAD + bytes.fromhex(Digest.of_bytes(body).hex)
    path.write_bytes(head + body)


def test_how_many_are_checked(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data_cache, "_SETTLED_NS", -60_000_000_000)
    hash_data_by_cache(data)
    assert hash_data_by_cache(data).cached == CacheUse(files=FILES - 4, checked=4)
    names = [str(number) for number in range(1000)]
    assert len(data_cache._sample(names)) == 20
    assert data_cache._sample(names) != data_cache._sample(names)
    assert data_cache._sample(["one"]) == {"one"}


def test_what_the_sample_misses_removes_the_cache_at_the_end(
    data: Path, cache: Path, example: Record, tmp_path: Path
) -> None:
    """The runner reads all data after the script: a run whose recipe has a wrong digest fails there."""
    tree = replace(hash_data(data), cached=CacheUse(files=1, checked=0))
    spec = RunConfig(script=tmp_path / "train.py", data=data)
    planned = PlannedRun(
        spec=spec,
        setup=RunSetup(image=example.recipe.image),
        started=None,  # type: ignore[arg-type]
        code=Tree(entries=()),
        data=tree,
        recipe=example.recipe,
    )
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    for message, left in (("the script failed", 1), (f"{DATA_CHANGED}: a/00.txt; run again", 0)):
        hash_data_by_cache(data)
        run.record.unlink(missing_ok=True)
        write_record(run.record, replace(example, outcome=Outcome(state=FAILED, message=message)))
        forget_wrong_data(planned, run)
        assert len(list(cache.iterdir())) == left


@pytest.mark.parametrize(
    "damage", [lambda _: b"", lambda c: c[:-1], lambda c: c[:-1] + bytes([c[-1] ^ 1]), lambda c: b"x" + c]
)
def test_a_damaged_cache(data: Path, cache: Path, damage: "object") -> None:
    hash_data_by_cache(data)
    (path,) = cache.iterdir()
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert used(hash_data_by_cache(data)) == 0
    assert used(hash_data_by_cache(data)) == FILES


def test_a_cache_that_others_may_write(data: Path, cache: Path) -> None:
    hash_data_by_cache(data)
    (path,) = cache.iterdir()
    path.chmod(0o666)
    assert used(hash_data_by_cache(data)) == 0


@pytest.fixture
def in_memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.usefixtures("cache")
def test_a_file_system_that_keeps_no_times(in_memory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On tmpfs, no write through a mapping moves a time."""
    (in_memory / "file").write_text("1")
    for _ in range(2):
        assert used(hash_data_by_cache(in_memory)) == 0
    assert "the data cache is not used on tmpfs: all data is hashed" in capsys.readouterr().err


_MOUNTED = """
import sys
from pathlib import Path
from samebits.core.run_setup import hash_data
from samebits.host import data_cache
data_cache._SETTLED_NS, data_cache._MIN_CHECKED, data_cache._CHECKED_PART = -60_000_000_000, 0, 0.0
for folder in sys.argv[1:]:
    found = data_cache.hash_data_by_cache(Path(folder))
    assert found == hash_data(Path(folder))
    print(0 if found.cached is None else found.cached.files)
"""


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("mounts", "names", "found"),
    [
        ("mount -t tmpfs none data/empty && echo 1 > data/empty/file", ("data", "data"), [0, FILES]),
        ("mkdir bind && mount --bind data bind", ("data", "bind", "bind"), [0, 0, FILES]),
        (
            "mkdir up work over && mount -t overlay -o lowerdir=data,upperdir=up,workdir=work none over",
            ("over", "over"),
            [0, 0],
        ),
    ],
)
def test_mounts(tmp_path: Path, data: Path, mounts: str, names: tuple[str, ...], found: list[int]) -> None:
    """Another file system within the data is read each time, and an overlay, whose layers are unknown, too."""
    assert data.parent == tmp_path
    command = f'cd "$1" && shift && {mounts} && exec "$@"'
    words = ["unshare", "-m", "sh", "-c", command, "sh", str(tmp_path), sys.executable, "-c", _MOUNTED, *names]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if "permi" in done.stderr.lower() or "unshare" in done.stderr:
        pytest.skip("only root mounts")
    assert ([int(line) for line in done.stdout.split()], done.returncode) == (found, 0), done.stderr


@pytest.mark.usefixtures("cache")
def test_empty_data(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="is empty"):
        hash_data_by_cache(tmp_path / "none")


def test_only_training_uses_it() -> None:
    """Nothing that compares data with a record may import it."""
    sources = {path: path.read_text() for path in (ROOT / "src/samebits").rglob("*.py")}
    users = {path.relative_to(ROOT / "src/samebits") for path, text in sources.items() if "data_cache import" in text}
    assert users == {Path("host/launch/train.py"), Path("host/sweep/training.py")}


@pytest.mark.usefixtures("cache")
def test_its_use_is_named(tmp_path: Path, data: Path, example: Record, capsys: pytest.CaptureFixture[str]) -> None:
    """By the published record and by `show`; a run that read everything names nothing."""
    script = tmp_path / "code" / "train.py"
    script.parent.mkdir()
    script.write_text("import keras\n")
    spec = RunConfig(script=script, data=data, runs=tmp_path / "runs", data_cache=True)
    setup = RunSetup(image=example.recipe.image)
    for expected in (None, CacheUse(files=FILES, checked=0)):
        planned = plan_run(spec, setup, hasher=data_cache.data_hasher(spec))
        folder, record = publish(planned)
        assert record.origin.data_cache == expected
        assert Record.from_dict(record.to_dict()).origin == record.origin
        assert folder.read().origin.data_cache == expected
    assert data_cache.data_hasher(replace(spec, data_cache=False)) is hash_data
    show_run(folder, folder.path.name)
    assert "30 files not read before the run, 0 checked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("own", "option", "wanted"), [("false", None, False), ("true", None, True), ("true", False, False)]
)
def test_who_switches_it_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, option: bool | None, wanted: bool
) -> None:
    """The user, by the command line or their own configuration; a project cannot."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "samebits").mkdir(parents=True)
    (tmp_path / "config" / "samebits" / "config.toml").write_text(f"data-cache = {own}\n")
    script = tmp_path / "train.py"
    script.touch()
    assert make_config({"script": script, "data_cache": option}).data_cache == wanted
    (script.parent / "samebits.toml").write_text("data-cache = true\n")
    with pytest.raises(InputError, match="'data-cache' is not for a project to choose; use --data-cache"):
        make_config({"script": script})


def test_a_job_on_a_cluster_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    words = ["train", str(tmp_path / "train.py"), "--on", "slurm", "--data-cache"]
    done = call(*words, folder=tmp_path)
    assert done.status == 2
    assert "--data-cache is for a run on this machine, as a node reads all data; drop it" in done.err
