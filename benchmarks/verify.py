"""What it costs to compare, to check and to verify (about ten minutes)."""

import shutil
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from figures import Figure
from loads import Watched, watched
from measuring import ROOT, Options, interleaved, samebits, scratch, seconds

from samebits.core.ledger import Ledger
from samebits.core.record import LedgerEnd, Record, read_record, write_record
from samebits.core.run_dir import RunDir
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.cache_dir import cache_folder
from samebits.host.compare.run_diff import diff

LINES = 100_000


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
    for lines in (100, 1_000) if options.small else (1_000, LINES):
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
    actions = {name: partial(prepared, folder, name, command) for name, command in commands.items()}
    found = interleaved(actions, options.rounds_or(5))
    for name, taken in found.items():
        cell = partial(Figure, table="`examples/digits`", row=name)
        yield cell(column="whole", unit="s", values=tuple(one.call.seconds for one in taken), most=goals.get(name))
        yield cell(column="processor time", unit="s", values=tuple(one.call.processor for one in taken))
        loads = tuple(one.loads for one in taken)
        yield cell(column="processes that load TensorFlow", unit="of them", values=loads, most=starts.get(name))


def prepared(folder: Path, name: str, command: tuple[str, ...]) -> Watched:
    """Run a command in the state that its name says."""
    if name.endswith("computed"):
        shutil.rmtree(cache_folder("fingerprints"))
    elif name.endswith("cache"):
        samebits("preflight", "last", folder=folder)
    return watched(partial(samebits, *command, folder=folder))
