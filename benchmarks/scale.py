"""What grows with files, bytes, ledger lines and runs (about ten minutes).

Contenders run as commands, in interleaved rounds. A peer that is not installed is left out. Contents are dropped from
the page cache by `posix_fadvise`; names and inodes stay there.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

from figures import Figure
from measuring import ROOT, Call, Options, call, interleaved, samebits, scratch

from samebits.core.jsonio import canonical_json
from samebits.core.ledger import LEDGER_VERSION
from samebits.core.record import LedgerEnd, read_record, write_record
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import hash_data
from samebits.host.data_cache import hash_data_by_cache

RECORD = ROOT / "tests" / "data" / "record-1.9.json"
SMALL = (1_000, 10_000, 100_000, 300_000)
LARGE_FILES, LARGE_BYTES = 64, 2 << 30
LINES = (100_000, 1_000_000, 10_000_000)
SETTLED_SECONDS = 3  # neither the data cache nor the index of runs keeps what changed just now
LIST_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A command that hashes the folder `tree`; `prepare` is done before each round and not timed."""

    name: str
    command: tuple[str, ...]
    prepare: Callable[[], object] = lambda: None
    environment: Mapping[str, str] | None = None
    folder: Path | None = None

    def run(self) -> Call:
        """Prepare, and run once."""
        self.prepare()
        return call(*self.command, folder=self.folder, environment=self.environment)


def measure(options: Options) -> Iterator[Figure]:
    """Trees of data, ledgers, and folders of runs."""
    divide = 100 if options.small else 1
    with scratch() as folder:
        yield from trees(folder, options, divide)
    with scratch() as folder:
        yield from ledgers(folder, divide)
    with scratch() as folder:
        yield from lists(folder, options.rounds_or(5), divide)


def trees(folder: Path, options: Options, divide: int) -> Iterator[Figure]:
    """Trees of small files, and of large ones."""
    inputs = {
        f"{number // divide:,} files of 100 bytes": small_tree(folder / str(number), number // divide)
        for number in SMALL
    }
    large = f"{LARGE_BYTES // divide / 2**30:.2g} GiB in {LARGE_FILES} files"
    inputs[large] = large_tree(folder / "large", LARGE_BYTES // divide // LARGE_FILES)
    time.sleep(SETTLED_SECONDS)
    found: dict[tuple[str, str], list[Call]] = {}
    for what, tree in inputs.items():
        # These take seconds for a thousand files: the slope of the smallest tree is enough.
        slow = annexes(folder, tree, options.dvc) if what in {next(iter(inputs)), large} else ()
        actions = {one.name: one.run for one in (*hashers(folder, tree), *slow)}
        for name, calls in interleaved(actions, options.rounds_or(3)).items():
            found[name, what] = calls
            seconds = tuple(one.seconds for one in calls)
            yield Figure(table="hashing", row=name, column=what, unit="s", values=seconds)
    for name in dict.fromkeys(name for name, _ in found):
        peak = max(one.peak for (other, _), calls in found.items() if other == name for one in calls)
        yield Figure(table="hashing", row=name, column="peak memory", unit="MiB", values=(peak,))
    middles = {key: median(one.seconds for one in calls) for key, calls in found.items()}
    yield from slopes(middles, [*inputs], divide)


def slopes(middles: Mapping[tuple[str, str], float], inputs: list[str], divide: int) -> Iterator[Figure]:
    """Seconds for each million of files, and for each TB, from the smallest to the largest tree."""
    first, last, large = inputs[0], inputs[-2], inputs[-1]  # what starting costs is in each of them
    for name in dict.fromkeys(name for name, _ in middles):
        # Of a peer with one tree of small files, its start is counted with the files.
        if (name, last) in middles:
            each = (middles[name, last] - middles[name, first]) / (SMALL[-1] - SMALL[0])
        else:
            each = middles[name, first] / SMALL[0]
        rate = max(middles[name, large] - middles[name, first], 0.0) / LARGE_BYTES
        files, data = each * divide * 1e6, rate * divide * 1e12
        for column, value in {"1 million files": files, "1 TB": data, "both": files + data}.items():
            yield Figure(table="by this slope", row=name, column=column, unit="s", values=(value,))


def small_tree(folder: Path, number: int) -> Path:
    """Files of 100 bytes, a thousand in a folder."""
    for index in range(number):
        if index % 1000 == 0:
            (folder / f"{index // 1000:04}").mkdir(parents=True)
        (folder / f"{index // 1000:04}" / f"{index:07}.txt").write_bytes(f"{index:0100}".encode())
    return folder


def large_tree(folder: Path, size: int) -> Path:
    """Files of random bytes."""
    folder.mkdir()
    for index in range(LARGE_FILES):
        (folder / f"{index}.bin").write_bytes(os.urandom(size))
    return folder


def hashers(folder: Path, tree: Path) -> Iterator[Contender]:
    """What reads a tree and leaves it as it is."""
    environment = {**os.environ, "SAMEBITS_CACHE": str(folder / "cache")}
    ours = (sys.executable, __file__)
    yield Contender(name="samebits", command=(*ours, "all", str(tree)), environment=environment)
    cold = (*ours, "all", str(tree))
    yield Contender(
        name="samebits, not in the page cache", command=cold, environment=environment, prepare=lambda: drop(tree)
    )
    cached = (*ours, "cache", str(tree))
    call(*cached, environment=environment)  # fills the cache
    yield Contender(name="samebits `--data-cache`", command=cached, environment=environment)
    yield Contender(name="only read, by `cat`", command=piped(tree, "cat"))
    for program in ("sha256sum", "b3sum"):
        if is_there(program):
            yield Contender(name=f"`{program}`", command=piped(tree, program))


def piped(tree: Path, program: str) -> tuple[str, ...]:
    """A program over all files of a tree."""
    return ("sh", "-c", 'find "$1" -type f -print0 | xargs -0 "$2" >/dev/null', "sh", str(tree), program)


def annexes(folder: Path, tree: Path, dvc: str) -> Iterator[Contender]:
    """What adds a tree to a repository: each round to a new one, with a copy of the tree."""
    if is_there("git-annex"):
        repository = folder / "annex"
        yield Contender(
            name="`git annex add`",
            command=("git", "-C", str(repository), "annex", "add", "--quiet", "data"),
            prepare=lambda: repository_of(repository, tree, ("git", "init", "-q"), ("git", "annex", "init", "-q")),
        )
    if is_there(dvc):
        at = folder / "dvc"
        yield Contender(
            name="`dvc add`",
            command=(dvc, "add", "--quiet", "data"),
            folder=at,
            environment={**os.environ, "DVC_NO_ANALYTICS": "1"},
            prepare=lambda: repository_of(at, tree, (dvc, "init", "--no-scm", "-q")),
        )


def is_there(program: str) -> bool:
    """Whether a peer is installed; says so where it is not."""
    found = shutil.which(program) is not None
    if not found:
        print(f"{program} is not installed, and left out", file=sys.stderr)
    return found


def repository_of(folder: Path, tree: Path, *commands: tuple[str, ...]) -> None:
    """A new repository with a copy of the tree, whose pages are in the cache."""
    if folder.exists():
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)  # git-annex protects what it holds
        shutil.rmtree(folder)
    folder.mkdir()
    for command in commands:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    shutil.copytree(tree, folder / "data")
    os.sync()


def drop(tree: Path) -> None:
    """Drop the content of all files from the page cache; names and inodes stay there."""
    os.sync()
    for folder, _, names in os.walk(tree):
        for name in names:
            descriptor = os.open(f"{folder}/{name}", os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def ledgers(folder: Path, divide: int) -> Iterator[Figure]:
    """`samebits audit` of runs with many ledger lines, once each."""
    table = "`samebits audit` of a run with"
    for lines in LINES:
        run = run_with_ledger(folder / str(lines), lines // divide)
        row = f"{lines // divide:,} lines"
        yield Figure(table=table, row=row, column="ledger", unit="MiB", values=(run.ledger.stat().st_size / 2**20,))
        # 2, as code and data are missing: there is nothing but the ledger and its record.
        done = samebits("audit", run.path, statuses=(2,))
        yield Figure(table=table, row=row, column="time", unit="s", values=(done.seconds,))
        yield Figure(table=table, row=row, column="peak memory", unit="MiB", values=(done.peak,))
        shutil.rmtree(run.path)


def run_with_ledger(folder: Path, lines: int) -> RunDir:
    """A finished run of so many steps. Written by hand, as the writer syncs, and reads its lines again."""
    record = read_record(RECORD)
    run = RunDir(folder)
    folder.mkdir()
    line = {"event": "epoch", "fit": 0, "epoch": 0, "model": "m", "metrics": {"loss": "0x1.0p+0"}}
    values = {
        **line,
        "tensors": {"trainable": f"sha256:{0:064}"},
        "version": LEDGER_VERSION,
        "line": 0,
        "previous": "@",
    }
    text = canonical_json(values).decode()
    text = text.replace('"epoch":0', '"epoch":%d', 1).replace('"line":0', '"line":%d', 1).replace('"@"', '"%s"', 1)
    assert text.index('"epoch":%d') < text.index('"line":%d') < text.index('"previous"')
    previous = str(record.recipe.digest)
    with run.ledger.open("wb") as file:
        for number in range(lines):
            content = (text % (number, number + 1, previous)).encode()
            file.write(content + b"\n")
            previous = f"sha256:{hashlib.sha256(content).hexdigest()}"
    ended = LedgerEnd(lines=lines, last=previous)
    write_record(run.record, replace(record, ledger=ended, result=None, files=None))
    return run


def lists(folder: Path, rounds: int, divide: int) -> Iterator[Figure]:
    """`samebits list` over many runs, which share a few records: without an index, then with it."""
    number = 100_000 // divide
    many = folder / "runs"
    for index in range(number):
        shared = folder / f"record-{index // 20_000}.json"  # a file has a limited number of names
        if not shared.exists():
            shutil.copy(RECORD, shared)
        target = many / f"20261120T121757Z-train-1bff1090-{index:06}"
        target.mkdir(parents=True)
        os.link(shared, target / "record.json")
    time.sleep(SETTLED_SECONDS)
    environment = {**os.environ, "SAMEBITS_CACHE": str(folder / "cache")}
    listed = partial(samebits, "list", "--runs", many, environment=environment)
    help_seconds = tuple(samebits("--help").seconds for _ in range(rounds))
    yield Figure(table="commands", row="`samebits --help`", column="", unit="s", values=help_seconds)
    table_row = f"`samebits list`, {number:,} runs"
    first = (listed().seconds,)
    yield Figure(table="commands", row=f"{table_row}, the first time", column="", unit="s", values=first)
    later = tuple(listed().seconds for _ in range(rounds))
    yield Figure(
        table="commands", row=f"{table_row}, by the index", column="", unit="s", values=later, most=LIST_SECONDS
    )


if __name__ == "__main__":
    print({"all": hash_data, "cache": hash_data_by_cache}[sys.argv[1]](Path(sys.argv[2])).digest)
