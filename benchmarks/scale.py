"""Measure what grows with files, bytes, ledger lines and runs: `make bench-scale` (about seven minutes).

Contenders run as commands, in interleaved rounds; medians are compared. A peer that is not installed is left out.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from run import listed_seconds

from samebits.core.cpu_info import describe_cpu
from samebits.core.jsonio import canonical_json
from samebits.core.ledger import LEDGER_VERSION
from samebits.core.record import LedgerEnd, read_record, write_record
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import hash_data
from samebits.host.data_cache import hash_data_by_cache

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "tests" / "data" / "record-1.9.json"
COMMAND = str(Path(sys.executable).with_name("samebits"))
SMALL = (1_000, 10_000, 100_000, 300_000)
LARGE_FILES, LARGE_BYTES = 64, 2 << 30
LINES = (100_000, 1_000_000, 10_000_000)
SETTLED_SECONDS = 2.5  # the data cache keeps nothing that changed just now
PARTS = ("trees", "ledgers", "list")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One contender on one input: the seconds of its rounds, and the largest peak memory in MiB."""

    part: str
    what: str
    contender: str
    seconds: tuple[float, ...]
    peak: float

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({min(self.seconds):.2f} to {max(self.seconds):.2f})"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A command that hashes the folder `tree`; `prepare` is done before each round and not timed."""

    name: str
    command: tuple[str, ...]
    prepare: Callable[[], object] = lambda: None
    environment: Mapping[str, str] | None = None
    folder: Path | None = None


def main() -> None:
    """Run all, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure only this part; repeatable")
    parser.add_argument("--divide", type=int, default=1, metavar="N", help="all sizes by N, to try the command")
    parser.add_argument("--dvc", default="dvc", metavar="COMMAND", help="dvc in an environment of its own")
    parser.add_argument("--hash", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hash:
        how = {"all": hash_data, "cache": hash_data_by_cache}[options.hash[0]]
        print(how(Path(options.hash[1])).digest)
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # no contender is to compile its own source each time
    cpu = describe_cpu()
    machine = f"{cpu.model}, {cpu.cores} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}; medians of {options.rounds} rounds, with the range; seconds\n", flush=True)
    parts: dict[str, Callable[[Path], list[Measured]]] = {
        "trees": lambda folder: trees(folder, options.rounds, options.divide, options.dvc),
        "ledgers": lambda folder: ledgers(folder, options.divide),
        "list": lambda folder: runs_listed(folder, options.rounds, options.divide),
    }
    found: list[Measured] = []
    for name, part in parts.items():
        if options.only is None or name in options.only:
            with tempfile.TemporaryDirectory(prefix="samebits-bench-", ignore_cleanup_errors=True) as folder:
                found += part(Path(folder))
    if options.json is not None:
        values = [{**asdict(item), "median": item.median} for item in found]
        options.json.write_text(json.dumps({"machine": machine, "measured": values}, indent=1) + "\n")


def timed(
    command: tuple[str, ...],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    statuses: tuple[int, ...] = (0,),
) -> tuple[float, float]:
    """Seconds and peak memory in MiB of a command; another exit status than these ends the measurement."""
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in statuses:
            errors.seek(0)
            raise SystemExit(f"{command[0]} ended with {process.returncode}: {errors.read()[-500:].decode()}")
    return seconds, usage.ru_maxrss / 1024


def compete(what: str, contenders: list[Contender], rounds: int) -> list[Measured]:
    """All contenders in turns."""
    found: dict[str, list[tuple[float, float]]] = {item.name: [] for item in contenders}
    for _ in range(rounds):
        for item in contenders:
            item.prepare()
            found[item.name].append(timed(item.command, item.environment, item.folder))
    return [
        Measured(
            part="trees", what=what, contender=name, seconds=tuple(s for s, _ in times), peak=max(m for _, m in times)
        )
        for name, times in found.items()
    ]


def trees(folder: Path, rounds: int, scale: int, dvc: str) -> list[Measured]:
    """Trees of small files, and of large ones."""
    found = []
    inputs: dict[str, Path] = {}
    for number in SMALL:
        what = f"{number // scale:,} files of 100 bytes"
        inputs[what] = small_tree(folder / str(number), number // scale)
    what = f"{LARGE_BYTES // scale / 2**30:.2g} GiB in {LARGE_FILES} files"
    inputs[what] = large_tree(folder / "large", LARGE_BYTES // scale // LARGE_FILES)
    time.sleep(SETTLED_SECONDS)
    for index, (what, tree) in enumerate(inputs.items()):
        # These take seconds for a thousand files: the slope of the smallest tree is enough.
        slow = list(annexes(folder, tree, dvc)) if index in {0, len(inputs) - 1} else []
        contenders = [*hashers(folder, tree), *slow]
        found += compete(what, contenders, rounds)
    print_trees(found, list(inputs))
    print_slope(found, list(inputs), scale)
    return found


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
    ours = (sys.executable, str(Path(__file__)), "--hash")
    yield Contender(name="samebits", command=(*ours, "all", str(tree)), environment=environment)
    cold = (*ours, "all", str(tree))
    yield Contender(
        name="samebits, not in the page cache", command=cold, environment=environment, prepare=lambda: drop(tree)
    )
    cached = (*ours, "cache", str(tree))
    timed(cached, environment)  # fills the cache
    yield Contender(name="samebits `--data-cache`", command=cached, environment=environment)
    for program in ("sha256sum", "b3sum"):
        if is_there(program):
            command = ("sh", "-c", 'find "$1" -type f -print0 | xargs -0 "$2"', "sh", str(tree), program)
            yield Contender(name=f"`{program}`", command=command)


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


def print_trees(found: list[Measured], inputs: list[str]) -> None:
    """A row for each contender."""
    print(f"| hashing | {' | '.join(inputs)} | peak memory |\n|---|{'---|' * len(inputs)}---|")
    for name in dict.fromkeys(item.contender for item in found):
        by_input = {item.what: item for item in found if item.contender == name}
        cells = [str(by_input[what]) if what in by_input else "" for what in inputs]
        print(f"| {name} | {' | '.join(cells)} | {max(item.peak for item in by_input.values()):.0f} MiB |")
    print(flush=True)


def print_slope(found: list[Measured], inputs: list[str], scale: int) -> None:
    """Seconds for each million of files, and for each TB, from the smallest to the largest tree."""
    first, last, large = inputs[0], inputs[-2], inputs[-1]  # what starting costs is in each of them
    print("| by this slope | 1 million files | 1 TB | both |\n|---|---|---|---|")
    for name in dict.fromkeys(item.contender for item in found):
        by_input = {item.what: item.median for item in found if item.contender == name}
        # Of a peer with one tree of small files, its start is counted with the files.
        if last in by_input:
            each = (by_input[last] - by_input[first]) / (SMALL[-1] - SMALL[0])
        else:
            each = by_input[first] / SMALL[0]
        rate = max(by_input[large] - by_input[first], 0.0) / LARGE_BYTES
        files, data = each * scale * 1e6, rate * scale * 1e12
        cells = " | ".join(f"{seconds:.0f} s" for seconds in (files, data, files + data))
        print(f"| {name} | {cells} |")
    print(flush=True)


def ledgers(folder: Path, scale: int) -> list[Measured]:
    """`samebits audit` of runs with many ledger lines: time and peak memory, once each."""
    found = []
    print("| `samebits audit` | ledger | seconds | peak memory |\n|---|---|---|---|")
    for lines in LINES:
        run = run_with_ledger(folder / str(lines), lines // scale)
        size = run.ledger.stat().st_size
        # 2, as code and data are missing: there is nothing but the ledger and its record.
        seconds, peak = timed((COMMAND, "audit", str(run.path)), statuses=(2,))
        found.append(
            Measured(part="ledgers", what=f"{lines // scale}", contender="audit", seconds=(seconds,), peak=peak)
        )
        print(f"| {lines // scale:,} lines | {size / 2**20:,.0f} MiB | {seconds:.1f} | {peak:.0f} MiB |", flush=True)
        shutil.rmtree(run.path)
    print(flush=True)
    return found


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


def runs_listed(folder: Path, rounds: int, scale: int) -> list[Measured]:
    """`samebits list` over 100,000 runs."""
    number = 100_000 // scale
    first, *taken = listed_seconds(folder, RECORD, rounds + 3, number)  # these are short
    print(f"| `samebits list`, {number:,} runs | seconds |\n|---|---|")
    found = [
        Measured(part="list", what=what, contender="list", seconds=tuple(seconds), peak=0.0)
        for what, seconds in {"the first time": [first], "with the index": taken}.items()
    ]
    for item in found:
        print(f"| {item.what} | {item} |")
    return found


if __name__ == "__main__":
    main()
