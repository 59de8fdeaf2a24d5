"""A trial in the process that trains: what is changed around it, its steps, and what it tells at its end."""

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
from samebits.runner.trial.perturbations import change, change_order

_WARM_UP_STEPS = 3  # steps in which graphs are traced, and caches filled


class TrialRunner:
    """Carries a trial out; without one, nothing is changed, counted or told."""

    def __init__(self, trial: Trial | None) -> None:
        self._trial = trial
        self._steps = 0
        self._behind = 0.0
        self._took: dict[int, list[tuple[float, int]]] = {}
        self._watch = NondeterministicOpWatcher()

    def before_import(self, profile: Profile, patches: Patches) -> Profile:
        """Change what TensorFlow looks at when it is imported; returns the settings of the trial."""
        if self._trial is None:
            return profile
        change(self._trial, patches)
        return profile.in_trial(self._trial)

    def before_script(self, patches: Patches) -> None:
        """Change the rest, and begin to watch."""
        if self._trial is not None:
            change_order(self._trial, patches)
            self._watch.install(patches)

    @property
    def count(self) -> Callable[[int, int], None] | None:
        """What is to be called behind steps, with their model's number and how many; None where nobody counts."""
        return None if self._trial is None else self._count

    def _count(self, model: int, steps: int) -> None:
        """So many steps are done; raises TraceEnded behind the last."""
        now = time.perf_counter()
        self._steps += steps
        if self._steps > _WARM_UP_STEPS:
            self._took.setdefault(model, []).append((now - self._behind, steps))
        self._behind = now
        if self._trial is not None and self._trial.steps is not None and self._steps >= self._trial.steps:
            raise TraceEnded(self._trial.message)

    def nondeterministic_ops(self) -> tuple[NondeterministicOpUse, ...] | None:
        """For the record's environment: the operations without a deterministic form; None where there is no trial."""
        return None if self._trial is None else self._watch.found()

    def add_timings(self, timings: Timings) -> Timings:
        """With how many `steps` there were, and the seconds of a `step` once the first ones are over.

        Of each model it is the median; where several take turns, as in a GAN, the mean of those by their steps.
        """
        if self._trial is None:
            return timings
        timed = {model: [spent / steps for spent, steps in took] for model, took in self._took.items()}
        number = sum(len(seconds) for seconds in timed.values())
        mean = sum(statistics.median(seconds) * len(seconds) for seconds in timed.values()) / max(number, 1)
        return replace(timings, steps=self._steps, step=round(mean, 9) if number > 1 else None)
