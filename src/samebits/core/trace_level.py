"""The detail of a run's ledger: one line per epoch, one per step, or every tensor of every step."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import Fields

EPOCH = "epoch"
STEP = "step"
TENSOR = "tensor"
LEVELS = (EPOCH, STEP, TENSOR)
INPUT = "input"
"""The `part` of an output in a line that is the model's input rather than a layer's output."""


class TraceEnded(BaseException):
    """The traced window is over. A BaseException, so that `except Exception` in a user's script does not catch it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """A level and the window that it applies to. Without a window it applies to the whole run.

    A trace changes no bit of the result. A window is one of:

    - a `fit`, one `epoch` of it, or one `step` of that epoch;
    - a `step` of a `loop` of the script's own; `loop` is the number of the model that the loop trains;
    - a `step` alone: this step of every loop, until all loops are past it.

    All numbers count from 0, epochs as in Keras. Before the window the ledger has level `epoch`. After it the run ends.
    """

    level: str = EPOCH
    fit: int | None = None
    epoch: int | None = None
    step: int | None = None
    loop: int | None = None

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise InputError(f"trace must be one of {', '.join(LEVELS)}, not {self.level!r}")
        if any(number is not None and number < 0 for number in self._numbers):
            raise InputError("the number of a traced fit, loop, epoch or step must be 0 or more")
        # Each number needs the one that contains it.
        if self.epoch is not None and self.fit is None:
            raise InputError("a traced epoch belongs to a fit; name the fit, too")
        if self.fit is not None and self.step is not None and self.epoch is None:
            raise InputError("a traced step of a fit belongs to an epoch; name the epoch, too")
        if self.loop is not None and self.fit is not None:
            raise InputError("a traced loop is the script's own; drop the fit and the epoch")
        if self.loop is not None and self.step is None:
            raise InputError("a traced loop has no known end; name a step, too")

    @property
    def _numbers(self) -> tuple[int | None, ...]:
        return self.fit, self.epoch, self.step, self.loop

    @property
    def has_window(self) -> bool:
        """Whether the trace is limited to a window."""
        return any(number is not None for number in self._numbers)

    @property
    def steps(self) -> bool:
        """Whether single steps are observed: for their lines, or to find the end of the window."""
        return self.level != EPOCH or self.has_window

    @property
    def values(self) -> bool:
        """Whether the line of a step lists its tensors."""
        return self.level == TENSOR

    def caution(self, device: str) -> str | None:
        """A warning to log before training on this kind of device, or None."""
        return "on GPUs it is not verified that a trace changes no bit" if self.values and device == "gpu" else None

    @property
    def message(self) -> str:
        """The outcome's message of a run that ended with its window."""
        what = next(name for name in ("step", "epoch", "fit") if getattr(self, name) is not None)
        return f"ended after the traced {what}, as asked"

    def to_dict(self) -> dict[str, Any]:
        """As the record stores it. A number that the window does not limit is None; `loop` is then left out."""
        # Records from before `loop` existed have no such key; leaving it out keeps their digests.
        return {name: value for name, value in asdict(self).items() if name != "loop" or value is not None}

    @classmethod
    def from_fields(cls, fields: Fields) -> "Trace":
        """Parse the output of `to_dict`; raises RecordError."""
        numbers = {name: fields.optional(name, int) for name in ("fit", "epoch", "step", "loop")}
        try:
            return cls(level=fields.get("level", str), **numbers)
        except InputError as error:
            raise RecordError(f"'{fields.path('level')}': {error}") from error


DEFAULT_TRACE = Trace()
"""The trace of a run that does not set one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batches:
    """The steps `first` to `last` of an epoch that Keras runs in one execution (`steps_per_execution`)."""

    fit: int
    epoch: int
    first: int
    last: int


class Window:
    """Tracks a training through `fit` and loops: which steps the trace includes, and when it ends the run."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._batches: Batches | None = None
        self._loops: dict[int, int] = {}

    def begin(self, batches: Batches) -> None:
        """Record that a `fit` begins these steps."""
        self._batches = batches

    def leave(self) -> None:
        """Record that no `fit` is inside a step."""
        self._batches = None

    def count(self, loop: int) -> int:
        """Count a step that a loop has made; returns its number."""
        step = self._loops.get(loop, 0)
        self._loops[loop] = step + 1
        return step

    def counts(self) -> dict[str, int]:
        """The steps that each loop has made, by the loop's number, as JSON."""
        return {str(loop): steps for loop, steps in self._loops.items()}

    def count_from(self, counts: Mapping[str, int]) -> None:
        """Continue from the result of `counts`."""
        self._loops = {int(loop): steps for loop, steps in counts.items()}

    def may_include_step(self) -> bool:
        """Whether the step that is running may need a line. Its loop is known only after the step."""
        trace = self._trace
        if not trace.has_window:
            return True
        if self._batches is not None:
            return self.includes(self._batches)
        counts = self._traced_loops()
        # Before any loop has made a step, only step 0 can be the running one.
        return trace.fit is None and (trace.step in counts or (not counts and trace.step == 0))

    def includes(self, batches: Batches) -> bool:
        """Whether the trace includes these steps of a `fit`."""
        trace = self._trace
        if not trace.has_window:
            return True
        # One execution may cover several steps.
        if trace.step is not None and not batches.first <= trace.step <= batches.last:
            return False
        return trace.fit == batches.fit and trace.epoch in {None, batches.epoch}

    def includes_step(self, loop: int, step: int) -> bool:
        """Whether the trace includes this step of a loop."""
        trace = self._trace
        return not trace.has_window or (trace.fit is None and trace.loop in {None, loop} and trace.step == step)

    def end_batches(self, batches: Batches) -> None:
        """Raise TraceEnded if the window is one of these steps."""
        if self._trace.step is not None and self.includes(batches):
            # Raised after the step, so that its line is written.
            raise TraceEnded(self._trace.message)

    def end_epoch(self, fit: int, epoch: int) -> None:
        """Raise TraceEnded if the window is this epoch."""
        self._end_after(Trace(level=self._trace.level, fit=fit, epoch=epoch))

    def end_fit(self, fit: int) -> None:
        """Raise TraceEnded if the window is this `fit`."""
        self._end_after(Trace(level=self._trace.level, fit=fit))

    def end_steps(self) -> None:
        """Raise TraceEnded if the traced loop is past its step; without a loop, if all loops are."""
        trace = self._trace
        if trace.step is None or trace.fit is not None:
            return
        counts = self._traced_loops()
        # Until every loop is past the step, one of them may still reach it.
        if counts and all(count > trace.step for count in counts):
            raise TraceEnded(trace.message)

    def _traced_loops(self) -> list[int]:
        """The steps made by the traced loop, or by every loop if the trace names none."""
        loop = self._trace.loop
        return [*self._loops.values()] if loop is None else [self._loops.get(loop, 0)]

    def _end_after(self, window: Trace) -> None:
        if self._trace == window:
            raise TraceEnded(window.message)
