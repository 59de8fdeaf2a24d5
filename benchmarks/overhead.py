"""What a whole run costs beside plain Python: its start, and each step (about 40 minutes).

The network of the digits is trained for two lengths in turns: their difference is what steps cost, the rest is the
start. `steps` knows the ratio of a step more exactly, `instructions` counts.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from figures import Figure
from measuring import (
    COMMAND,
    HERE,
    Options,
    call,
    confidence,
    has_engine,
    interleaved,
    ratios,
    scratch,
)

from samebits.core.determinism_profile import Profile
from samebits.host.launch.venv import locked_python

STEPS = 45
"""Of an epoch: 1,437 images in batches of 32."""
DEFAULTS, EQUAL, OURS = "`python train.py`, TensorFlow's defaults", "with equal settings", "`samebits train`"
OURS_IN_CONTAINER = "`samebits train --runtime docker`"
GOALS = {OURS: 0.5, OURS_IN_CONTAINER: 1.5}
"""The most seconds that the start may add."""

Command = tuple[tuple[str, ...], Mapping[str, str]]
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """What the same contender takes for a short and a long training of the same rounds, in any unit."""

    short: Sequence[float]
    long: Sequence[float]
    epochs: tuple[int, int]

    @property
    def steps(self) -> tuple[float, ...]:
        """What a step takes, for each round."""
        more = (self.epochs[1] - self.epochs[0]) * STEPS
        return tuple((long - short) / more for short, long in zip(self.short, self.long, strict=True))

    @property
    def starts(self) -> tuple[float, ...]:
        """What is left of the short training without its steps."""
        before = self.epochs[0] * STEPS
        return tuple(short - before * step for short, step in zip(self.short, self.steps, strict=True))


def measure(options: Options) -> Iterator[Figure]:
    """By the clock and by processor time."""
    with scratch() as folder:
        shutil.copy(HERE / "train_timed.py", folder / "train.py")
        yield from timed(folder, options)


def timed(folder: Path, options: Options) -> Iterator[Figure]:
    """In the virtual environment, and in a container where an engine answers."""
    epochs = (1, 2) if options.small else (5, 65)
    threads = Profile().threads
    runtimes = {OURS: "venv"} | ({OURS_IN_CONTAINER: "docker"} if has_engine() else {})
    ours = {
        name: ((COMMAND, "train", "--runtime", one, "train.py", "--"), os.environ) for name, one in runtimes.items()
    }
    contenders = plain_commands(threads) | ours
    actions = actions_of(contenders, epochs, lambda command, variables: timing(command, variables, folder))
    found = interleaved(actions, options.rounds_or(25), warm=1)
    clocks, processors = ({name: [pair[one] for pair in pairs] for name, pairs in found.items()} for one in (0, 1))
    yield from compared(f"by the clock, {threads} threads", splits(clocks, contenders, epochs), "s", goals=True)
    beside = [name for name in contenders if name != OURS_IN_CONTAINER]  # the engine starts that one
    yield from compared(f"processor time, {threads} threads", splits(processors, beside, epochs), "s")


def timing(command: Sequence[str], variables: Mapping[str, str], folder: Path) -> tuple[float, float]:
    """Seconds by the clock and of the processors."""
    done = call(*command, folder=folder, environment=variables)
    return done.seconds, done.processor


def plain_commands(threads: int) -> dict[str, Command]:
    """The same Python and packages: as TensorFlow comes, and with the settings of samebits; as many threads in both."""
    python = str(locked_python())
    pools = {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": str(threads)}
    equal = {**os.environ, **Profile(threads=threads).variables}
    return {
        DEFAULTS: ((python, "train.py"), {**os.environ, **pools}),
        EQUAL: ((python, str(HERE / "plain.py"), str(threads), "train.py"), equal),
    }


def actions_of(
    contenders: Mapping[str, Command],
    epochs: tuple[int, int],
    run: Callable[[Sequence[str], Mapping[str, str]], _Result],
) -> dict[str, Callable[[], _Result]]:
    """Each contender with each length."""
    return {
        f"{name} {length}": partial(run, (*command, "--epochs", str(length)), variables)
        for name, (command, variables) in contenders.items()
        for length in epochs
    }


def splits(found: Mapping[str, Sequence[float]], names: Iterable[str], epochs: tuple[int, int]) -> dict[str, Split]:
    """The two lengths of each contender put together."""
    short, long = epochs
    return {name: Split(short=found[f"{name} {short}"], long=found[f"{name} {long}"], epochs=epochs) for name in names}


def compared(what: str, found: Mapping[str, Split], unit: str, *, goals: bool = False) -> Iterator[Figure]:
    """A row for each contender, beside plain Python with equal settings."""
    base = found[EQUAL]
    scale, small = (1000, "ms") if unit == "s" else (1, unit)
    for name, split in found.items():
        yield Figure(table=what, row=name, column="start", unit=unit, values=split.starts)
        more = tuple(one - other for one, other in zip(split.starts, base.starts, strict=True))
        most = GOALS.get(name) if goals else None
        yield Figure(table=what, row=name, column="start, more", unit=unit, values=more, most=most)
        step = tuple(scale * value for value in split.steps)
        yield Figure(table=what, row=name, column="a step", unit=small, values=step)
        ratio = ratios(split.steps, base.steps)
        yield Figure(table=what, row=name, column="ratio of a step", values=ratio)
        if name != EQUAL and len(ratio) > 1:
            yield Figure(table=what, row=name, column="known to ±", unit="%", values=(known_to(ratio),), most=1)


def known_to(values: Sequence[float]) -> float:
    """Half of the interval that holds the median with 95 %, in percent; of all values where they are too few."""
    low, high = confidence(values) or (min(values), max(values))
    return 100 * (high - low) / 2
