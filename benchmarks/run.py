"""Measure what BENCHMARKS.md states, side by side: `make bench`.

Rounds are interleaved, so that a machine that slows down slows every contender down; medians are compared.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from samebits.core.cpu_info import describe_cpu
from samebits.core.determinism_profile import Profile
from samebits.core.file_tree import hash_tree
from samebits.host.launch.venv import locked_python

HERE = Path(__file__).parent
COMMAND = str(Path(sys.executable).with_name("samebits"))


def main() -> None:
    """Run all measurements and print them as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # no contender is to compile its own source each time
    cpu = describe_cpu()
    print(f"{cpu.model}, {cpu.cores} cores, {cpu.instruction_set}, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory(prefix="samebits-bench-") as folder:
        training(Path(folder), rounds)
        commands(Path(folder), rounds)
        hashing(Path(folder))


def training(folder: Path, rounds: int) -> None:
    """The same script by plain Python, in the virtual environment, and in a container."""
    shutil.copy(HERE / "train_timed.py", folder / "train.py")
    python = str(locked_python())
    plain = {**os.environ, **Profile().variables, "TF_CPP_MIN_LOG_LEVEL": "2"}
    contenders = {
        "`python train.py`": ([python, str(HERE / "plain.py"), "train.py"], plain),
        "`samebits train --runtime venv`": ([COMMAND, "train", "train.py", "--runtime", "venv"], dict(os.environ)),
    }
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        command = [COMMAND, "train", "train.py", "--runtime", "docker"]
        contenders["`samebits train --runtime docker`"] = (command, dict(os.environ))
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, (command, environment) in contenders.items():
            seconds[name].append(_timed_training(command, environment, folder))
    _print_training({name: found[1:] for name, found in seconds.items()}, rounds)


def _timed_training(command: list[str], environment: dict[str, str], folder: Path) -> tuple[float, float]:
    """Wall seconds of the whole call, and of `fit` in it."""
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    wall = time.perf_counter() - started
    (fit,) = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("fit_seconds")]
    return wall, fit


def _print_training(seconds: dict[str, list[tuple[float, float]]], rounds: int) -> None:
    print(f"| training, medians of {rounds} interleaved rounds | `fit` | ratio to plain | the rest | more than plain |")
    print("|---|---|---|---|---|")
    base_fit = base_rest = 0.0
    for name, found in seconds.items():
        fit = statistics.median(item[1] for item in found)
        rest = statistics.median(item[0] - item[1] for item in found)
        base_fit, base_rest = base_fit or fit, base_rest or rest
        print(f"| {name} | {fit:.2f} s | {fit / base_fit:.3f} | {rest:.2f} s | {rest - base_rest:+.2f} s |")
    print()


def commands(folder: Path, rounds: int) -> None:
    """The command line over a thousand runs."""
    (run, *_) = sorted((folder / "runs").glob("*/"))
    many = folder / "many"
    for number in range(1000):
        target = many / f"{run.name}-{number}"
        target.mkdir(parents=True)
        for name in ("record.json", "ledger.jsonl"):
            shutil.copy(run / name, target / name)
    print(f"| command, medians of {rounds} | seconds |\n|---|---|")
    for name, words in {"--help": ["--help"], "list, 1,000 runs": ["list", "--runs", str(many)]}.items():
        print(f"| `samebits {name}` | {statistics.median(_each(rounds, [COMMAND, *words])):.3f} |")
    print()
    listing(folder, rounds)


def listing(folder: Path, rounds: int) -> None:
    """`samebits list` over 100,000 runs: without an index, and with it."""
    (run, *_) = sorted((folder / "runs").glob("*/"))
    first, *taken = listed_seconds(folder, run / "record.json", rounds)
    print(f"| `samebits list`, 100,000 runs, medians of {rounds} | seconds |\n|---|---|")
    print(f"| the first time | {first:.1f} |")
    print(f"| with the index | {statistics.median(taken):.2f} ({min(taken):.2f} to {max(taken):.2f}) |\n")


def listed_seconds(folder: Path, record: Path, rounds: int, number: int = 100_000) -> list[float]:
    """Seconds of `samebits list` over many runs, which share a few records: without an index, then with it."""
    many = folder / "many-runs"
    for index in range(number):
        shared = folder / f"record-{index // 20_000}.json"  # a file has a limited number of names
        if not shared.exists():
            shutil.copy(record, shared)
        target = many / f"20261120T121757Z-train-1bff1090-{index:06}"
        target.mkdir(parents=True)
        os.link(shared, target / "record.json")
    time.sleep(3)  # what changed just now is not in the index
    environment = {**os.environ, "SAMEBITS_CACHE": str(folder / "cache")}
    return _each(rounds + 1, [COMMAND, "list", "--runs", str(many)], environment)


def _each(rounds: int, command: list[str], environment: Mapping[str, str] | None = None) -> list[float]:
    run = partial(subprocess.run, command, env=environment, capture_output=True, check=True)
    return [_seconds(run) for _ in range(rounds)]


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def hashing(folder: Path) -> None:
    """A large file against `sha256sum`, and 100,000 small ones against reading them."""
    large, small = folder / "large", folder / "small"
    large.mkdir()
    small.mkdir()
    (large / "file").write_bytes(os.urandom(1 << 20) * 2048)
    for number in range(100_000):
        (small / f"{number:06}.txt").write_text(str(number))
    print("| hashing, files in the page cache | seconds | rate |\n|---|---|---|")
    for name, action in {
        "2 GiB in one file, samebits": lambda: hash_tree(large, "data"),
        "2 GiB in one file, `sha256sum`": lambda: subprocess.run(
            ["sha256sum", large / "file"], capture_output=True, check=True
        ),
    }.items():
        seconds = min(_seconds(action) for _ in range(3))
        print(f"| {name} | {seconds:.2f} | {2 / seconds:.2f} GiB/s |")
    for name, action in {
        "100,000 small files, samebits": lambda: hash_tree(small, "data"),
        "100,000 small files, only opened and read": lambda: _read_all(small),
    }.items():
        seconds = min(_seconds(action) for _ in range(3))
        print(f"| {name} | {seconds:.2f} | {100 / seconds:.0f} thousand files/s |")


def _read_all(folder: Path) -> None:
    for entry in os.scandir(folder):
        with open(entry.path, "rb", buffering=0) as file:
            file.read()


if __name__ == "__main__":
    main()
