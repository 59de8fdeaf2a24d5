"""What it costs to compare, to check and to verify (about ten minutes)."""

import os
import shutil
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from figures import Figure
from measuring import ROOT, Options, interleaved, samebits, scratch, seconds

from samebits.core.ledger import Ledger
from samebits.core.record import LedgerEnd, Record, read_record, write_record
from samebits.core.run_dir import RunDir
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.cache_dir import cache_folder
from samebits.host.compare.run_diff import diff

LINES = 100_000
LIBRARY = "libtensorflow_framework.so"


def measure(options: Options) -> Iterator[Figure]:
    """Ledgers of many lines, then the whole commands."""
    with scratch() as folder:
        yield from ledgers(folder, options)
    with scratch() as folder:
        yield from verifying(folder, options)


def made(folder: Path, record: Record, lines: int) -> RunDir:
    """A run of `lines` epochs; its last one is another in a run of another seed."""
    run = RunDir(folder)
    folder.mkdir()
    with Ledger(run.ledger, record.recipe.digest) as ledger:
        for number in range(lines):
            digest = f"{record.recipe.seed if number == lines - 1 else 0:064d}"
            metrics = {"loss": "0x1.0p+0", "accuracy": "0x1.8p-1"}
            groups = dict.fromkeys(("trainable", "non_trainable", "optimizer"), f"sha256:{digest}")
            line = {"event": "epoch", "fit": 0, "epoch": number, "model": "m"}
            ledger.append({**line, "metrics": metrics, "tensors": groups})
        ended = LedgerEnd(lines=ledger.lines, last=str(ledger.last))
    write_record(run.record, replace(record, ledger=ended, result=None))
    return run


def ledgers(folder: Path, options: Options) -> Iterator[Figure]:
    """Two runs with many lines, which differ in their last."""
    record = read_record(ROOT / "tests" / "data" / "record-1.0.json")
    table = "two runs of many lines"
    for lines in (1_000, LINES // 100 if options.small else LINES):
        one, other = (
            made(folder / f"{lines}-{seed}", replace(record, recipe=replace(record.recipe, seed=seed)), lines)
            for seed in (1, 2)
        )
        held, rounds, column = one.read(), range(options.rounds_or(5)), f"{lines:,} lines"
        compared = tuple(seconds(partial(diff, one, other)) for _ in rounds)
        checked = tuple(seconds(partial(check_ledger, one.ledger, held)) for _ in rounds)
        tracemalloc.start()
        diff(one, other)
        peak = tracemalloc.get_traced_memory()[1] / 2**10
        tracemalloc.stop()
        yield Figure(table=table, row="`diff` of both", column=column, unit="s", values=compared)
        yield Figure(table=table, row="its peak memory", column=column, unit="KiB", values=(peak,))
        yield Figure(table=table, row="the check of one ledger", column=column, unit="s", values=checked)
        shutil.rmtree(one.path)
        shutil.rmtree(other.path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """What a command took, and in how many processes it loaded TensorFlow."""

    seconds: float
    processor: float
    starts: int


def verifying(folder: Path, options: Options) -> Iterator[Figure]:
    """The example, trained and verified in turns, in the virtual environment."""
    shutil.copytree(ROOT / "examples" / "digits", folder / "digits")
    train = ("train", "digits/train.py", "--data", "digits/data", "--runtime", "venv")
    commands = {
        "`train`": train,
        "`preflight`, fingerprint computed": ("preflight", "last"),
        "`preflight`, fingerprint in the cache": ("preflight", "last"),
        "`verify`, fingerprint computed": ("verify", "last"),
        "`verify`, fingerprint in the cache": ("verify", "last"),
    }
    goals = {"`preflight`, fingerprint in the cache": 1.0}
    starts = {"`preflight`, fingerprint in the cache": 0, "`verify`, fingerprint in the cache": 1}
    samebits(*train, folder=folder)
    actions = {name: partial(started, folder, name, command) for name, command in commands.items()}
    found = interleaved(actions, options.rounds_or(5))
    for name, taken in found.items():
        walls, processors, loads = (
            tuple(getattr(one, what) for one in taken) for what in ("seconds", "processor", "starts")
        )
        cell = partial(Figure, table="`examples/digits`", row=name)
        yield cell(column="whole", unit="s", values=walls, most=goals.get(name))
        yield cell(column="processor time", unit="s", values=processors)
        yield cell(column="processes that load TensorFlow", unit="of them", values=loads, most=starts.get(name))


def started(folder: Path, name: str, command: tuple[str, ...]) -> Started:
    """Run a command as its name says, and watch which processes it starts."""
    fingerprints = cache_folder("fingerprints")
    if name.endswith("computed"):
        shutil.rmtree(fingerprints)
    elif name.endswith("cache"):
        samebits("preflight", "last", folder=folder)
    watch = LoadWatch()
    watch.start()
    done = samebits(*command, folder=folder)
    return Started(seconds=done.seconds, processor=done.processor, starts=watch.end())


class LoadWatch(threading.Thread):
    """Looks, ten times a second, which processes below this one have TensorFlow's library mapped.

    A forked process maps it, too: only those count whose parent does not.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._loaded: set[int] = set()
        self._ended = threading.Event()

    def run(self) -> None:
        """Look until the end."""
        while not self._ended.wait(0.1):
            parents = _parents()
            for pid, parent in parents.items():
                if pid not in self._loaded and _is_below(pid, parents) and _maps(pid) and not _maps(parent):
                    self._loaded.add(pid)

    def end(self) -> int:
        """How many there were."""
        self._ended.set()
        self.join()
        return len(self._loaded)


def _parents() -> dict[int, int]:
    """The parent of each process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            # The name, in parentheses, may hold anything.
            found[int(path.parent.name)] = int(path.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
    return found


def _is_below(pid: int, parents: dict[int, int]) -> bool:
    while pid := parents.get(pid, 0):
        if pid == os.getpid():
            return True
    return False


def _maps(pid: int) -> bool:
    try:
        return LIBRARY in Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # it has ended, or may not be read
        return False
