"""Measure what it takes to find the first tensor that differs: `make bench-locate` (about 10 minutes).

Two runs of 20 epochs have one recipe, and differ by a file beside their data. `verify --locate` starts at the last
checkpoint before the divergence; without one, at the first step, as ever. A default run keeps its last two checkpoints:
for a divergence in epoch 10 it starts at the first step, too. A run of `--keep all` has a checkpoint there.
Each pair is trained once, and located in interleaved rounds. Medians are compared.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from samebits.core.run_dir import RunDir
from samebits.host.rerun import challenge as exchanging
from samebits.host.rerun import divergence
from samebits.host.rerun.request import RerunRequest
from samebits.host.rerun.verify import VerifyOptions, verify_against

HERE = Path(__file__).parent
COMMAND = str(Path(sys.executable).with_name("samebits"))
EXCHANGE = "challenge, the commands of both parties"
LAST, MIDDLE = 20, 10
FROM_THE_FIRST_STEP = {LAST: "none", MIDDLE: "last"}
STEP = 30
GOAL = 0.15


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Two runs that diverge in an epoch, with the checkpoints that they keep, and how the place is found."""

    epoch: int
    keep: str
    how: str = "verify --locate"

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"`--keep {self.keep}`: {self.how}"


CONTENDERS = (
    Contender(epoch=LAST, keep="none"),
    Contender(epoch=LAST, keep="last"),
    Contender(epoch=LAST, keep="last", how=EXCHANGE),
    Contender(epoch=MIDDLE, keep="last"),
    Contender(epoch=MIDDLE, keep="all"),
)


def main() -> None:
    """Train the pairs, locate in turns, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    found: dict[Contender, list[dict[str, float]]] = {contender: [] for contender in CONTENDERS}
    with tempfile.TemporaryDirectory(prefix="samebits-locate-") as name:
        pairs = trained(Path(name))
        for _ in range(options.rounds):
            for contender in CONTENDERS:
                found[contender].append(measured(contender, pairs[contender.epoch, contender.keep], Path(name)))
    rows = [row(contender, found) for contender in CONTENDERS]
    if options.json is not None:
        options.json.write_text(json.dumps({"rounds": options.rounds, "goal": GOAL, "rows": rows}, indent=1) + "\n")
    print(f"| medians of {options.rounds} interleaved rounds | epoch | training | ratio | whole command | ratio |")
    print("|---|---|---|---|---|---|")
    for cells in rows:
        columns = [
            f"{statistics.median(cells[name]):.1f} s ({min(cells[name]):.1f} to {max(cells[name]):.1f})"
            f" | {cells[f'{name} ratio']:.3f}"
            for name in ("training", "whole")
        ]
        print(f"| {cells['name']} | {cells['epoch']} | {' | '.join(columns)} |")


def trained(folder: Path) -> dict[tuple[int, str], tuple[RunDir, RunDir]]:
    """A pair of runs for each epoch and retention."""
    shutil.copytree(HERE, folder / "code", ignore=lambda _, names: {*names} - {"train_located.py"})
    for name, number in (("one", "0"), ("other", "0.001")):
        (folder / name / "data").mkdir(parents=True)
        (folder / name / "data" / "empty").touch()
        (folder / name / "machine.txt").write_text(number)
    wanted = dict.fromkeys((contender.epoch, contender.keep) for contender in CONTENDERS)
    return {
        (epoch, keep): (train(folder, "one", epoch, keep), train(folder, "other", epoch, keep))
        for epoch, keep in wanted
    }


def train(folder: Path, name: str, epoch: int, keep: str) -> RunDir:
    """One side of a pair."""
    words = ["train", "code/train_located.py", "--runtime", "venv", "--data", f"{name}/data", "--keep", keep]
    done = subprocess.run(
        [COMMAND, *words, "--", str(epoch)], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    (path,) = (line.removeprefix("run ") for line in done.stdout.splitlines() if line.startswith("run "))
    return RunDir(folder / path)


def measured(contender: Contender, pair: tuple[RunDir, RunDir], folder: Path) -> dict[str, float]:
    """Seconds of the whole, and of the scripts of the trainings in it."""
    seconds: list[float] = []

    def timed(*words: Any) -> divergence.RunWithRecord:
        run, record = train_traced(*words)
        seconds.append(record.timings.script or 0.0)
        return run, record

    train_traced = divergence.train_traced
    request = RerunRequest(runs=folder / "runs")
    started = time.perf_counter()
    with patch.object(divergence, "train_traced", timed), patch.object(exchanging, "train_traced", timed):
        if contender.how == EXCHANGE:
            location = exchanged(pair, request, folder)
        else:
            location = verify_against(*pair, request, VerifyOptions(locate=True)).location
    whole = time.perf_counter() - started
    if location is None or (location.epoch, location.step) != (contender.epoch - 1, STEP) or not location.causes:
        raise SystemExit(f"{contender.name}: not located: {location}")
    return {"training": sum(seconds), "whole": whole}


def exchanged(pair: tuple[RunDir, RunDir], request: RerunRequest, folder: Path) -> divergence.DivergenceLocation | None:
    """Both parties call the command until both know the place."""
    one, other = folder / "one.json", folder / "other.json"
    for file in (one, other):
        file.unlink(missing_ok=True)
    exchanging.challenge(pair[0], one, request)
    for _ in range(2):
        exchanging.challenge(pair[1], other, request, one)
        found = exchanging.challenge(pair[0], one, request, other)
    return found.location


def row(contender: Contender, found: dict[Contender, list[dict[str, float]]]) -> dict[str, Any]:
    """The figures of a contender, and the ratio of its medians to those of the first step."""
    base = found[Contender(epoch=contender.epoch, keep=FROM_THE_FIRST_STEP[contender.epoch])]
    cells: dict[str, Any] = {"name": contender.name, "epoch": contender.epoch}
    for name in ("training", "whole"):
        cells[name] = [times[name] for times in found[contender]]
        cells[f"{name} ratio"] = statistics.median(cells[name]) / statistics.median(times[name] for times in base)
    return cells


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
