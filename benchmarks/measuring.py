"""What all benchmarks measure with: commands and their times, contenders in turns, and whether the machine is idle."""

import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

HERE = Path(__file__).parent
ROOT = HERE.parent
COMMAND = str(Path(sys.executable).with_name("samebits"))
IDLE_CORES = 0.1
"""So much other work changes a median by less than the rounds scatter."""

_Result = TypeVar("_Result")


class UnavailableError(Exception):
    """What a benchmark needs is not here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What can be chosen of every benchmark. `small` takes the least sizes, to try it; its figures say nothing."""

    rounds: int | None = None
    small: bool = False
    dvc: str = "dvc"

    def rounds_or(self, usual: int) -> int:
        """How many rounds: as asked for; one if small."""
        return self.rounds or (1 if self.small else usual)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A command that has ended: seconds by the clock and of all processors, its peak memory in MiB, and the rest."""

    seconds: float
    processor: float
    peak: float
    output: str
    status: int

    def numbers(self, word: str) -> list[float]:
        """The numbers that stand in its output after a word that begins a line, of all such lines."""
        lines = (line.split() for line in self.output.splitlines())
        return [float(words[1]) for words in lines if words[:1] == [word]]


def call(
    *command: str | Path,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    statuses: tuple[int, ...] = (0,),
) -> Call:
    """Run a command to its end; another exit status than these ends the benchmark."""
    with (
        tempfile.TemporaryFile("w+", errors="replace") as output,
        tempfile.TemporaryFile("w+", errors="replace") as errors,
    ):
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode not in statuses:
            words = " ".join(map(str, command))
            raise SystemExit(f"{words} ended with {process.returncode}: {errors.read()[-2000:]}")
        return Call(
            seconds=seconds,
            processor=usage.ru_utime + usage.ru_stime,
            peak=usage.ru_maxrss / 1024,
            output=output.read(),
            status=process.returncode,
        )


def samebits(
    *words: str | Path,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    statuses: tuple[int, ...] = (0,),
) -> Call:
    """Run samebits."""
    return call(COMMAND, *words, folder=folder, environment=environment, statuses=statuses)


def seconds(action: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def interleaved(
    contenders: Mapping[str, Callable[[], _Result]], rounds: int, *, warm: int = 0
) -> dict[str, list[_Result]]:
    """What all contenders return in each round but the first `warm` ones. Every other round has the opposite order."""
    found: dict[str, list[_Result]] = {name: [] for name in contenders}
    for number in range(warm + rounds):
        for name in [*contenders][:: -1 if number % 2 else 1]:
            result = contenders[name]()
            if number >= warm:
                found[name].append(result)
    return found


def ratios(values: Sequence[float], base: Sequence[float]) -> tuple[float, ...]:
    """Each round's value over that of the base: what slows a round down slows both."""
    return tuple(value / other for value, other in zip(values, base, strict=True))


def confidence(values: Sequence[float]) -> tuple[float, float] | None:
    """An interval that holds the median with 95 %, whatever its distribution; None for fewer than six values."""
    number = len(values)
    ordered = sorted(values)
    outside, least = 0.0, None
    for index in range(number // 2):
        outside += 2 * math.comb(number, index) / 2**number
        if outside > 0.05:
            break
        least = index
    return None if least is None else (ordered[least], ordered[number - 1 - least])


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is removed at the end, in which git-annex may have protected files."""
    with tempfile.TemporaryDirectory(prefix="samebits-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def require_engine() -> None:
    """Raise UnavailableError where no Docker engine answers."""
    if not has_engine():
        raise UnavailableError("needs a Docker engine that answers")


def has_engine() -> bool:
    """Whether an engine answers."""
    return shutil.which("docker") is not None and call("docker", "info", statuses=(0, 1)).status == 0


def cores_in_use(during: float = 3.0) -> float:
    """How many cores all processes use together, watched for some seconds."""
    before, started = _busy_ticks(), time.monotonic()
    time.sleep(during)
    return (_busy_ticks() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - started)


def _busy_ticks() -> int:
    """Since the machine's start: user, nice, system, interrupts, and what the host took away."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = ticks
    return user + nice + system + interrupts + soft + stolen
