"""Runs a trial in the process that trains: applies perturbations, counts and times steps, and reports both."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from samebits.core.determinism_profile import Profile
from samebits.core.environment import NondeterministicOpUse
from samebits.core.timings import Timings
from samebits.core.trace_level import TraceEnded
from samebits.core.trial import Trial
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism.nondeterministic_ops import NondeterministicOpWatcher
from samebits.runner.trial.perturbations import perturb, perturb_order

_WARM_UP_STEPS = 3  # steps that trace graphs and fill caches, and are not timed


class TrialRunner:
    """Runs a trial. Without one, it changes, counts and reports nothing."""

    def __init__(self, trial: Trial | None) -> None:
        self._trial = trial
        self._steps = 0
        self._last_step = 0.0
        self._durations: dict[int, list[tuple[float, int]]] = {}
        self._op_watcher = NondeterministicOpWatcher()

    def before_import(self, profile: Profile, patches: Patches) -> Profile:
        """Apply the perturbations that TensorFlow sees during its import; returns the profile of the trial."""
        if self._trial is None:
            return profile
        perturb(self._trial, patches)
        return profile.in_trial(self._trial)

    def before_script(self, patches: Patches) -> None:
        """Apply the other perturbations, and start to record nondeterministic operations."""
        if self._trial is not None:
            perturb_order(self._trial, patches)
            self._op_watcher.install(patches)

    @property
    def count(self) -> Callable[[int, int], None] | None:
        """The function to call after steps, with the model's index and the number of steps; None without a trial."""
        return None if self._trial is None else self._count

    def _count(self, model: int, steps: int) -> None:
        """Count steps. Raises TraceEnded after the last step of the trial."""
        now = time.perf_counter()
        self._steps += steps
        # The time since the last step includes everything that the loop does between steps.
        if self._steps > _WARM_UP_STEPS:
            self._durations.setdefault(model, []).append((now - self._last_step, steps))
        self._last_step = now
        if self._trial is not None and self._trial.steps is not None and self._steps >= self._trial.steps:
            raise TraceEnded(self._trial.message)

    def nondeterministic_ops(self) -> tuple[NondeterministicOpUse, ...] | None:
        """For the record: the operations without a deterministic form that were used; None without a trial."""
        return None if self._trial is None else self._op_watcher.found()

    def add_timings(self, timings: Timings) -> Timings:
        """Add the number of `steps`, and the seconds of one `step` after the warm-up.

        The time of a step is the median over one model's steps. If several models take turns, as in a GAN, it is the
        mean of their medians, weighted by their steps.
        """
        if self._trial is None:
            return timings
        timed = {model: [spent / steps for spent, steps in durations] for model, durations in self._durations.items()}
        number = sum(len(seconds) for seconds in timed.values())
        # The median ignores single slow steps, such as those at the end of an epoch.
        mean = sum(statistics.median(seconds) * len(seconds) for seconds in timed.values()) / max(number, 1)
        return replace(timings, steps=self._steps, step=round(mean, 9) if number > 1 else None)
