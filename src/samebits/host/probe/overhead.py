"""`samebits check --cost`: the cost of each determinism setting in a script's own training.

Each round runs the training with all settings, and then once without each setting, for a few dozen steps in a process
of its own. The cost in a round is the ratio of the median step times. The report shows the median and range of rounds.
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
from samebits.core.trial import (
    CACHE_SIZES,
    EXACT_OPERATIONS,
    FEWEST_TIMED,
    GRAPH_REWRITES,
    OP_DETERMINISM,
    ORDER_OF_SUMS,
    SEEDS,
    Trial,
)
from samebits.host.console import print_bars, print_line
from samebits.host.launch.runtime import choose_runtime
from samebits.host.probe.experiment import Experiments

TIMED_STEPS = 40
TIMED_ROUNDS = 3
_ALL_SETTINGS = "all of them"

_COSTLY_SETTINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (OP_DETERMINISM, (OP_DETERMINISM,)),
    (ORDER_OF_SUMS, (ORDER_OF_SUMS,)),
    ("TensorFlow's threads", ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")),
    ("OPENBLAS_NUM_THREADS", ("OPENBLAS_NUM_THREADS",)),
    ("TF_ENABLE_ONEDNN_OPTS", ("TF_ENABLE_ONEDNN_OPTS",)),
    ("ONEDNN_MAX_CPU_ISA", ("ONEDNN_MAX_CPU_ISA",)),
    ("NPY_DISABLE_CPU_FEATURES", ("NPY_DISABLE_CPU_FEATURES",)),
    ("OPENBLAS_CORETYPE", ("OPENBLAS_CORETYPE",)),
    (GRAPH_REWRITES, (GRAPH_REWRITES,)),
    (EXACT_OPERATIONS, (EXACT_OPERATIONS,)),
    (CACHE_SIZES, (CACHE_SIZES,)),
    ("TF32 off", ("NVIDIA_TF32_OVERRIDE",)),
    ("CUBLAS_WORKSPACE_CONFIG", ("CUBLAS_WORKSPACE_CONFIG",)),
    ("XLA_FLAGS", ("XLA_FLAGS",)),
)
"""The settings that can slow a step down. The others (seeds, hash seed, locale, time zone) act only at the start."""

_PORTABLE_ONLY = (GRAPH_REWRITES, EXACT_OPERATIONS, CACHE_SIZES)
_NO_EFFECT = {"ONEDNN_MAX_CPU_ISA": "DEFAULT"}
"""Values that are the library's default, so that dropping the setting changes nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingCost:
    """One setting, by round: the seconds of a step without it, and the fraction of that throughput kept with it."""

    setting: str
    seconds: tuple[float, ...]
    kept: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """As the JSON output has it."""
        return {"setting": self.setting, "seconds": list(self.seconds), "kept": list(self.kept)}


@dataclass(frozen=True, kw_only=True, slots=True)
class OverheadReport:
    """The costs of a profile's settings; `seconds` are the times of a step with all settings, by round."""

    steps: int
    seconds: tuple[float, ...]
    settings: tuple[SettingCost, ...]

    def to_dict(self) -> dict[str, Any]:
        """As the JSON output has it."""
        rows = [cost.to_dict() for cost in self.settings]
        return {"steps": self.steps, "seconds": list(self.seconds), "settings": rows}

    def print(self) -> None:
        """Print a table with bars to stdout."""
        rows = []
        for cost in self.settings:
            spread = f"{min(cost.kept):.2f}-{max(cost.kept):.2f}"
            rows.append([cost.setting, f"{statistics.median(cost.seconds) * 1000:.2f}", spread])
        kept = [statistics.median(cost.kept) for cost in self.settings]
        columns = ["setting", "ms per step without", "range", "throughput with it, relative to without"]
        print_bars(columns, rows, kept)
        print_line(
            f"with all settings a step takes {statistics.median(self.seconds) * 1000:.2f} ms;"
            f" medians of {pluralize(len(self.seconds), 'round')} of {pluralize(self.steps, 'step')}"
        )


def measure_overhead(spec: RunConfig, *, steps: int, rounds: int) -> OverheadReport:
    """Run all rounds; raises InputError if a run fails, or makes too few steps to be timed."""
    rows = settings_of(spec.determinism)
    runtime = choose_runtime(spec)
    full: list[float] = []
    without: dict[str, list[float]] = {name: [] for name, _ in rows}
    with tempfile.TemporaryDirectory(prefix="samebits-check-") as scratch:
        experiments = Experiments(spec, runtime, Path(scratch), DEFAULT_TRACE)
        for number in range(1, rounds + 1):
            # One after the other within a round, so that a drift of the machine's speed hits all of them alike.
            step, made = _timed(experiments, f"round {number} of {rounds}, with all settings", Trial(steps=steps))
            full.append(step)
            for name, variables in rows:
                what = f"round {number} of {rounds}, without {name}"
                without[name].append(_timed(experiments, what, Trial(steps=steps, without=variables))[0])
    costs = (
        SettingCost(
            setting=name,
            seconds=tuple(spent),
            kept=tuple(bare / whole for bare, whole in zip(spent, full, strict=True)),
        )
        for name, spent in without.items()
    )
    return OverheadReport(steps=made, seconds=tuple(full), settings=tuple(costs))


def settings_of(profile: Profile) -> list[tuple[str, tuple[str, ...]]]:
    """The costly settings of a profile, each with the names to drop; the last row drops all of them."""
    # A setting at its default value cannot cost anything.
    given = {name for name, value in profile.variables.items() if _NO_EFFECT.get(name) != value}
    given |= {OP_DETERMINISM, ORDER_OF_SUMS, *(_PORTABLE_ONLY if profile.portable else ())}
    rows = [(name, parts) for name, parts in _COSTLY_SETTINGS if given.issuperset(parts)]
    # Seeds take part only in the last row: they cost nothing per step by themselves.
    everything = (SEEDS, *(part for _, parts in rows for part in parts))
    return [*rows, (_ALL_SETTINGS, everything)]


def _timed(experiments: Experiments, what: str, trial: Trial) -> tuple[float, int]:
    """The seconds of a step, and the number of steps."""
    _, record = experiments.run(what, trial)
    if record.outcome.state == FAILED:
        raise InputError(f"{what}: {record.outcome.message}; see `samebits check --run`")
    step, made = record.timings.step, record.timings.steps or 0
    # The runner records no time if it could not time a step.
    if step is None or made < FEWEST_TIMED:
        raise InputError(f"the script made too few steps to measure: {made}; train for {FEWEST_TIMED} or more")
    return step, made
