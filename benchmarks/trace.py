"""Measure what finer lines of the ledger cost, side by side: `make bench-trace` (about ten minutes).

Prints tables in Markdown. Rounds are interleaved, and medians are compared.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from samebits.core.trace_level import LEVELS

HERE = Path(__file__).parent
COMMAND = str(Path(sys.executable).with_name("samebits"))
MODELS = ("digits", "resnet50-224", "resnet50-64")
PARTS = ("bytes", "reading", "digesting", "one-thread")


def main() -> None:
    """Run all, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    found: dict[str, list[dict[str, float]]] = {level: [] for level in LEVELS}
    for _ in range(rounds):
        for level in LEVELS:
            found[level].append(measured(level))
    medians = {level: {name: middle(runs, name) for name in runs[0]} for level, runs in found.items()}
    print_table(medians, found, rounds)
    print_bound(medians)


def middle(runs: list[dict[str, float]], name: str) -> float:
    """The median of one figure."""
    return statistics.median(run[name] for run in runs)


def measured(level: str) -> dict[str, float]:
    """What one training under a level prints, in seconds and bytes."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(HERE / "train_traced.py", folder)
        if level == "epoch":
            (Path(folder) / "parts").touch()
        words = [COMMAND, "train", "train_traced.py", "--runtime", "venv", "--trace", level]
        done = subprocess.run(
            words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
        )
    lines = (line.split() for line in done.stdout.splitlines())
    return {words[0]: float(words[1]) for words in lines if words and words[0] in {*MODELS, *PARTS}}


def print_table(medians: dict[str, dict[str, float]], found: dict[str, list[dict[str, float]]], rounds: int) -> None:
    """Seconds per step, the ratio to level `epoch`, and how far single runs lay apart."""
    print(f"| seconds per step, medians of {rounds} interleaved rounds | {' | '.join(MODELS)} |")
    print("|---" * (len(MODELS) + 1) + "|")
    for level in LEVELS:
        cells = []
        for name in MODELS:
            runs = [run[name] for run in found[level]]
            ratio = medians[level][name] / medians["epoch"][name]
            cells.append(f"{medians[level][name]:.4f} ({ratio:.2f}; {min(runs):.4f} to {max(runs):.4f})")
        print(f"| `--trace {level}` | {' | '.join(cells)} |")


def print_bound(medians: dict[str, dict[str, float]]) -> None:
    """What a line for a step of ResNet50 is made of, measured alone, as parts of what the level adds."""
    epoch = medians["epoch"]
    added = medians["step"]["resnet50-64"] - epoch["resnet50-64"]
    print(f"\n| a line of {epoch['bytes'] / 2**20:.0f} MiB, alone | seconds | of what `--trace step` adds |")
    print("|---|---|---|")
    names = {
        "reading": "reading the variables",
        "digesting": "digesting them, on all cores",
        "one-thread": "on one core",
    }
    for name, said in names.items():
        print(f"| {said} | {epoch[name]:.4f} | {epoch[name] / added:.2f} |")


if __name__ == "__main__":
    main()
