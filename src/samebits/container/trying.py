"""A trial in the process that trains: what is changed around it, its steps, and what it tells at its end."""

import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from samebits.container.surroundings import change, change_order
from samebits.container.undetermined import Watch
from samebits.profile import Profile
from samebits.trace import TraceEnded
from samebits.trial import Trial

_WARMING = 3  # steps in which graphs are traced, and caches filled


class Trying:
    """Carries a trial out; without one, nothing is changed, counted or told."""

    def __init__(self, trial: Trial | None) -> None:
        self._trial = trial
        self._behind: list[float] = []
        self._watch = Watch()

    def before_import(self, profile: Profile) -> Profile:
        """Change what TensorFlow looks at when it is imported; returns the settings of the trial."""
        if self._trial is None:
            return profile
        change(self._trial)
        return profile.in_trial(self._trial)

    def before_script(self) -> None:
        """Change the rest, and begin to watch."""
        if self._trial is not None:
            change_order(self._trial)
            self._watch.install()

    @property
    def count(self) -> Callable[[], None] | None:
        """What is to be called behind each step; None where nobody counts."""
        return None if self._trial is None else self._count

    def _count(self) -> None:
        """Another step is done, of whatever model; raises TraceEnded behind the last."""
        self._behind.append(time.perf_counter())
        if self._trial is not None and len(self._behind) == self._trial.steps:
            raise TraceEnded(self._trial.message)

    def observed(self) -> dict[str, Any]:
        """For the record's environment: the operations without a deterministic form, and what they cost on the CPU."""
        return {} if self._trial is None else {"undetermined": self._watch.found()}

    def seconds(self) -> dict[str, float]:
        """For the record's timings: the median of a step, once the first ones are over, where there were enough."""
        behind = self._behind[_WARMING:]
        if len(behind) < 2:
            return {}
        return {"step": statistics.median(after - before for before, after in pairwise(behind))}
