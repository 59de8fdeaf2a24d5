"""`samebits check --cost`: what each determinism setting costs a script's own training, measured side by side.

Every round carries out the run as it is, and then once without each of the settings, for a few dozen steps in a process
of its own. A cost is the ratio of the medians of a step within a round; told are the median and the range of rounds.
"""

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.determinism_profile import Profile
from samebits.core.errors import InputError, pluralize
from samebits.core.record import FAILED
from samebits.core.run_config import RunConfig
from samebits.core.trace_level import DEFAULT_TRACE
from samebits.core.trial import EXACT_OPERATIONS, FEWEST_TIMED, GRAPH_REWRITES, OP_DETERMINISM, SEEDS, Trial
from samebits.host.console import print_bars
from samebits.host.launch.runtime import choose_runtime
from samebits.host.probe.experiment import Experiments

TIMED_STEPS = 40
TIMED_ROUNDS = 3
_EVERYTHING = "all of them"

_SETTINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (OP_DETERMINISM, (OP_DETERMINISM,)),
    ("TensorFlow's threads", ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")),
    ("OPENBLAS_NUM_THREADS", ("OPENBLAS_NUM_THREADS",)),
    ("TF_ENABLE_ONEDNN_OPTS", ("TF_ENABLE_ONEDNN_OPTS",)),
    ("ONEDNN_MAX_CPU_ISA", ("ONEDNN_MAX_CPU_ISA",)),
    ("NPY_DISABLE_CPU_FEATURES", ("NPY_DISABLE_CPU_FEATURES",)),
    ("OPENBLAS_CORETYPE", ("OPENBLAS_CORETYPE",)),
    (GRAPH_REWRITES, (GRAPH_REWRITES,)),
    (EXACT_OPERATIONS, (EXACT_OPERATIONS,)),
    ("TF32 off", ("NVIDIA_TF32_OVERRIDE",)),
    ("CUBLAS_WORKSPACE_CONFIG", ("CUBLAS_WORKSPACE_CONFIG",)),
    ("XLA_FLAGS", ("XLA_FLAGS",)),
)
"""What a step may have to wait for. The others (seeds, hash seed, locale, time zone) are set once, before the first."""

_OF_PORTABLE = (GRAPH_REWRITES, EXACT_OPERATIONS)
_NOTHING = {"ONEDNN_MAX_CPU_ISA": "DEFAULT"}
"""Values that are as good as none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingCost:
    """One setting, by round: seconds of a step without it, and the part of that throughput that is kept with it."""

    setting: str
    seconds: tuple[float, ...]
    kept: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"setting": self.setting, "seconds": list(self.seconds), "kept": list(self.kept)}


@dataclass(frozen=True, kw_only=True, slots=True)
class OverheadReport:
    """All settings of a profile, side by side; `seconds` are a step's with all of them, by round."""

    steps: int
    seconds: tuple[float, ...]
    settings: tuple[SettingCost, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        rows = [cost.to_dict() for cost in self.settings]
        return {"steps": self.steps, "seconds": list(self.seconds), "settings": rows}

    def print(self) -> None:
        """A table with bars, on stdout."""
        rows = []
        for cost in self.settings:
            spread = f"{min(cost.kept):.2f}-{max(cost.kept):.2f}"
            rows.append([cost.setting, f"{statistics.median(cost.seconds) * 1000:.2f}", spread])
        kept = [statistics.median(cost.kept) for cost in self.settings]
        columns = ["setting", "ms a step without it", "range", "throughput with it, as a part of that without"]
        print_bars(columns, rows, kept)
        print(
            f"with all of them a step takes {statistics.median(self.seconds) * 1000:.2f} ms;"
            f" medians of {pluralize(len(self.seconds), 'round')} of {pluralize(self.steps, 'step')}"
        )


def measure_overhead(spec: RunConfig, *, steps: int, rounds: int) -> OverheadReport:
    """Carry all of it out; raises InputError where the script makes too few steps to be timed."""
    rows = settings_of(spec.determinism)
    runtime = choose_runtime(spec)
    whole: list[float] = []
    without: dict[str, list[float]] = {name: [] for name, _ in rows}
    with tempfile.TemporaryDirectory(prefix="samebits-check-") as scratch:
        trials = Experiments(spec, runtime, Path(scratch), DEFAULT_TRACE)
        for number in range(1, rounds + 1):
            step, made = _timed(trials, f"round {number} of {rounds}, with all settings", Trial(steps=steps))
            whole.append(step)
            for name, variables in rows:
                what = f"round {number} of {rounds}, without {name}"
                without[name].append(_timed(trials, what, Trial(steps=steps, without=variables))[0])
    costs = (
        SettingCost(
            setting=name,
            seconds=tuple(spent),
            kept=tuple(bare / full for bare, full in zip(spent, whole, strict=True)),
        )
        for name, spent in without.items()
    )
    return OverheadReport(steps=made, seconds=tuple(whole), settings=tuple(costs))


def settings_of(profile: Profile) -> list[tuple[str, tuple[str, ...]]]:
    """The settings that a profile has, each with what is left out for it; all of them are the last."""
    given = {name for name, value in profile.variables.items() if _NOTHING.get(name) != value}
    given |= {OP_DETERMINISM, *(_OF_PORTABLE if profile.portable else ())}
    rows = [(name, parts) for name, parts in _SETTINGS if given.issuperset(parts)]
    everything = (SEEDS, *(part for _, parts in rows for part in parts))
    return [*rows, (_EVERYTHING, everything)]


def _timed(trials: Experiments, what: str, trial: Trial) -> tuple[float, int]:
    """Seconds of a step, and how many there were."""
    _, record = trials.run(what, trial)
    if record.outcome.state == FAILED:
        raise InputError(f"{what}: {record.outcome.message}; see `samebits check --run`")
    step, made = record.timings.get("step"), record.timings.get("steps", 0)
    if not isinstance(step, float) or made < FEWEST_TIMED:
        raise InputError(f"the script made too few steps to time one: {made}; train for {FEWEST_TIMED} or more")
    return step, made
