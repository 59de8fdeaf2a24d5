"""Measure what it costs to compare and to verify, side by side: `make bench-verify` (about two minutes)."""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from samebits.core.ledger import Ledger
from samebits.core.record import LedgerEnd, Record, read_record, write_record
from samebits.core.run_dir import RunDir
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.cache_dir import cache_folder
from samebits.host.compare.run_diff import diff

ROOT = Path(__file__).parents[1]
COMMAND = str(Path(sys.executable).with_name("samebits"))
LINES = 100_000


def main() -> None:
    """Run all, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        print_ledgers(Path(folder), rounds)
    with tempfile.TemporaryDirectory() as folder:
        print_verifying(Path(folder), rounds)


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


def print_ledgers(folder: Path, rounds: int) -> None:
    """Two runs with many lines, which part in the last."""
    record = read_record(ROOT / "tests" / "data" / "record-1.0.json")
    print(f"| of {rounds} rounds the median | 1,000 lines | {LINES:,} lines |\n|---|---|---|")
    tasks: dict[str, list[str]] = {"`diff` of two": [], "peak memory of it": [], "the check of one ledger": []}
    for lines in (1_000, LINES):
        one, other = (made(folder / f"{lines}-{seed}", _seeded(record, seed), lines) for seed in (1, 2))
        tasks["`diff` of two"].append(f"{seconds(lambda: diff(one, other), rounds):.3f} s")  # noqa: B023
        tracemalloc.start()
        diff(one, other)
        tasks["peak memory of it"].append(f"{tracemalloc.get_traced_memory()[1] / 2**10:.0f} KiB")
        tracemalloc.stop()
        held = one.read()
        checked = seconds(lambda: check_ledger(one.ledger, held), rounds)  # noqa: B023
        tasks["the check of one ledger"].append(f"{checked:.3f} s")
    for name, cells in tasks.items():
        print(f"| {name} | {' | '.join(cells)} |")


def _seeded(record: Record, seed: int) -> Record:
    return replace(record, recipe=replace(record.recipe, seed=seed))


def seconds(task: Callable[[], object], rounds: int) -> float:
    """The median of its times."""
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        task()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def print_verifying(folder: Path, rounds: int) -> None:
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
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            if name.endswith("computed"):
                shutil.rmtree(cache_folder("fingerprints"))
            found[name].append(_called(folder, command))
    print("\n| `examples/digits`, medians | seconds | processor seconds |\n|---|---|---|")
    for name, times in found.items():
        wall, processor = (sorted(column) for column in zip(*times, strict=True))
        print(
            f"| {name} | {statistics.median(wall):.1f} ({wall[0]:.1f} to {wall[-1]:.1f})"
            f" | {statistics.median(processor):.1f} |"
        )


def _called(folder: Path, words: tuple[str, ...]) -> tuple[float, float]:
    """Seconds by the clock, and of all processors."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([COMMAND, *words], cwd=folder, check=True, capture_output=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
