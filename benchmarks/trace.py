"""Measure what finer lines of the ledger cost: `make bench-trace` (about five minutes).

Each process trains with and without the lines of steps in turns, so that both see the same state of the machine. Prints
tables in Markdown, and writes the figures as JSON with `--json FILE`.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from figures import Figure, spread, write_figures

HERE = Path(__file__).parent
COMMAND = str(Path(sys.executable).with_name("samebits"))
GOALS = {"digits": None, "million": 1.01, "resnet50": 1.05}
"""The greatest ratio of a step with its line to one without."""


def main() -> None:
    """Run all, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    parts: dict[str, list[float]] = defaultdict(list)
    for _ in range(given.processes):
        for words in trained("step"):
            if words[1:2] == ["lines"]:
                pairs[words[0]].append((float(words[2]), float(words[3])))
            elif words[:1] == ["part"]:
                parts[words[1]].append(float(words[2]))
    figures = [printed(name, found) for name, found in table_head(pairs)]
    print(f"\n| a line of {parts['bytes'][0] / 2**20:.0f} MiB, alone | seconds |\n|---|---|")
    for name in ("reading", "hashing", "both"):
        print(f"| {name} | {statistics.median(parts[name]):.4f} |")
    if given.json:
        write_figures(given.json, figures)


def table_head(pairs: dict[str, list[tuple[float, float]]]) -> list[tuple[str, list[tuple[float, float]]]]:
    """Print the head of the table; returns its rows."""
    rounds = min(map(len, pairs.values()))
    print(
        f"| `--trace step`, medians of {rounds} rounds | a step without | with its line | ratio, middle half | goal |"
    )
    print("|---|---|---|---|---|")
    return [*pairs.items()]


def printed(name: str, found: list[tuple[float, float]]) -> Figure:
    """Print a model's row; returns its ratio."""
    without, with_lines = (statistics.median(column) for column in zip(*found, strict=True))
    figure = Figure.of(f"trace-step/{name}", [after / before for before, after in found], most=GOALS[name])
    print(f"| {name} | {without:.4f} s | {with_lines:.4f} s | {spread(figure)} | {figure.said_goal} |")
    return figure


def trained(level: str) -> list[list[str]]:
    """The lines that one training under a level prints, in words."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(HERE / "train_traced.py", folder)
        words = [COMMAND, "train", "train_traced.py", "--runtime", "venv", "--trace", level]
        done = subprocess.run(
            words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
        )
    return [line.split() for line in done.stdout.splitlines()]


if __name__ == "__main__":
    main()
