"""What it takes to find the first tensor that differs (about 20 minutes).

Two runs of 20 epochs have one recipe, and differ by a file beside their data. `verify --locate` starts at the last
checkpoint before the divergence; without one, at the first step. A default run keeps its last two checkpoints:
for a divergence in epoch 10 it starts at the first step, too. A run of `--keep all` has a checkpoint there.
The base trains from the first step twice, as `verify --locate` did before it used checkpoints.
Each pair is trained once, and located in interleaved rounds.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from figures import Figure
from measuring import HERE, Options, interleaved, ratios, samebits, scratch, seconds

from samebits.core.run_dir import RunDir
from samebits.host.rerun import challenge as exchanging
from samebits.host.rerun import divergence
from samebits.host.rerun.request import RerunRequest
from samebits.host.rerun.verify import VerifyOptions, verify_against

EXCHANGE = "challenge, the commands of both parties"
EPOCHS, STEP = 20, 650
LAST, MIDDLE = "last", "middle"
GOAL = 0.15


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Two runs that diverge in their last or middle epoch, their checkpoints, and how the place is found."""

    epoch: str
    keep: str
    how: str = "verify --locate"
    base: bool = False
    twice: bool = False
    most: float | None = None

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"`--keep {self.keep}`: {self.how}"


CONTENDERS = (
    Contender(epoch=LAST, keep="none", how="from the first step, twice", base=True, twice=True),
    Contender(epoch=LAST, keep="none"),
    Contender(epoch=LAST, keep="last", most=GOAL),
    Contender(epoch=LAST, keep="last", how=EXCHANGE, most=GOAL),
    Contender(epoch=LAST, keep="all", most=GOAL),
    Contender(epoch=MIDDLE, keep="last", base=True),
    Contender(epoch=MIDDLE, keep="all"),
)


def measure(options: Options) -> Iterator[Figure]:
    """Seconds of the scripts in all trainings, which build the graph four times, and of the whole command."""
    epochs = 4 if options.small else EPOCHS
    with scratch() as folder:
        pairs = trained(folder, epochs)
        contenders = {
            f"{one.epoch} {one.name}": partial(located, one, epochs, pairs[one.epoch, one.keep], folder)
            for one in CONTENDERS
        }
        found = interleaved(contenders, options.rounds_or(3))
    for one in CONTENDERS:
        table = f"the first tensor that differs, in the {one.epoch} epoch of {epochs}"
        (base,) = (other for other in CONTENDERS if other.base and other.epoch == one.epoch)
        for number, what in enumerate(("training", "whole command")):
            values, against = (
                tuple(taken[number] for taken in found[f"{item.epoch} {item.name}"]) for item in (one, base)
            )
            yield Figure(table=table, row=one.name, column=what, unit="s", values=values)
            most = None if number else one.most
            yield Figure(table=table, row=one.name, column=f"{what}, ratio", values=ratios(values, against), most=most)


def number_of(epoch: str, epochs: int) -> int:
    """Which epoch that is."""
    return epochs if epoch == LAST else epochs // 2


def trained(folder: Path, epochs: int) -> dict[tuple[str, str], tuple[RunDir, RunDir]]:
    """A pair of runs for each epoch and retention."""
    shutil.copytree(HERE, folder / "code", ignore=lambda _, names: {*names} - {"train_located.py"})
    for name, number in (("one", "0"), ("other", "0.001")):
        (folder / name / "data").mkdir(parents=True)
        (folder / name / "data" / "empty").touch()
        (folder / name / "machine.txt").write_text(number)
    return {
        (one.epoch, one.keep): (train(folder, "one", one, epochs), train(folder, "other", one, epochs))
        for one in {(one.epoch, one.keep): one for one in CONTENDERS}.values()
    }


def train(folder: Path, name: str, contender: Contender, epochs: int) -> RunDir:
    """One side of a pair."""
    script = ("train", "code/train_located.py", "--runtime", "venv", "--data", f"{name}/data", "--keep", contender.keep)
    where = number_of(contender.epoch, epochs)
    printed = samebits(*script, "--", str(where), str(epochs), folder=folder).output
    (path,) = (line.removeprefix("run ") for line in printed.splitlines() if line.startswith("run "))
    return RunDir(folder / path)


def located(contender: Contender, epochs: int, pair: tuple[RunDir, RunDir], folder: Path) -> tuple[float, float]:
    """Seconds of the scripts of the trainings, and of the whole."""
    scripts: list[float] = []

    def timed(*words: Any) -> divergence.RunWithRecord:
        run, record = train_traced(*words)
        scripts.append(record.timings.script or 0.0)
        return run, record

    def locate() -> None:
        if contender.how == EXCHANGE:
            location = exchanged(pair, request, folder)
        else:
            location = verify_against(*pair, request, VerifyOptions(locate=True)).location
        place = (number_of(contender.epoch, epochs) - 1, STEP)
        if location is None or (location.epoch, location.step) != place or not location.causes:
            raise SystemExit(f"{contender.name}: not located: {location}")

    train_traced = divergence.train_traced
    request = RerunRequest(runs=folder / "runs")
    with ExitStack() as patches:
        for module in (divergence, exchanging):
            patches.enter_context(patch.object(module, "train_traced", timed))
        if contender.twice:
            patches.enter_context(patch.object(divergence, "later_starts", lambda _sides, starts, *_: starts))
        whole = seconds(locate)
    return sum(scripts), whole


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
