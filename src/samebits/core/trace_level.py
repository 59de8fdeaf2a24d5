"""How finely a run's ledger tells of training: a line for each epoch, for each step, or each tensor of each step."""

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
"""The `part` of a line's output that is none, but what the model was given."""


class TraceEnded(BaseException):
    """The window is over; like KeyboardInterrupt, it must pass through `except Exception` of a user's script."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """A level, and the window it holds in; without a window, in the whole run. It decides no bit of the result.

    A window is a `fit`, an `epoch` of it, or a `step` of that; of the script's own loops it is a `step` of a `loop`,
    which is the number of the model that it trains, or a `step` alone: that of each loop until all are past it. All
    count from 0, epochs as Keras does. Before the window the ledger is as at level `epoch`; after it the run ends.
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
            raise InputError("a traced fit, loop, epoch or step is a number from 0")
        if self.epoch is not None and self.fit is None:
            raise InputError("a traced epoch is one of a fit; name that, too")
        if self.fit is not None and self.step is not None and self.epoch is None:
            raise InputError("a traced step of a fit is one of an epoch; name that, too")
        if self.loop is not None and self.fit is not None:
            raise InputError("a traced loop is one of the script's own; it has no fit and no epoch")
        if self.loop is not None and self.step is None:
            raise InputError("nobody knows where a loop ends; name a step of it, too")

    @property
    def _numbers(self) -> tuple[int | None, ...]:
        return self.fit, self.epoch, self.step, self.loop

    @property
    def has_window(self) -> bool:
        """Whether there is a window."""
        return any(number is not None for number in self._numbers)

    @property
    def steps(self) -> bool:
        """Whether single steps are looked at: for their lines, or for the end of the window."""
        return self.level != EPOCH or self.has_window

    @property
    def values(self) -> bool:
        """Whether a step's line lists its tensors."""
        return self.level == TENSOR

    def caution(self, device: str) -> str | None:
        """What a run on this kind of device says of its trace beforehand."""
        return "not shown on a GPU that the trace changes no bit" if self.values and device == "gpu" else None

    @property
    def message(self) -> str:
        """What a run says that ended with its window."""
        what = next(name for name in ("step", "epoch", "fit") if getattr(self, name) is not None)
        return f"ended after the traced {what}, as asked"

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it; None stands where the window is not narrowed. `loop` is there if one is named."""
        return {name: value for name, value in asdict(self).items() if name != "loop" or value is not None}

    @classmethod
    def from_fields(cls, fields: Fields) -> "Trace":
        """Read what `to_dict` wrote; raises RecordError."""
        numbers = {name: fields.optional(name, int) for name in ("fit", "epoch", "step", "loop")}
        try:
            return cls(level=fields.get("level", str), **numbers)
        except InputError as error:
            raise RecordError(f"'{fields.path('level')}': {error}") from error


DEFAULT_TRACE = Trace()
"""As without a word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batches:
    """Steps of a `fit`, `first` to `last` of one epoch: many only where Keras carries them out in one execution."""

    fit: int
    epoch: int
    first: int
    last: int


class Window:
    """Follows a training through `fit` and loops: which steps a trace asks for, and where it ends the run."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._batches: Batches | None = None
        self._loops: dict[int, int] = {}

    def begin(self, batches: Batches) -> None:
        """A `fit` begins these steps."""
        self._batches = batches

    def leave(self) -> None:
        """No `fit` is in the midst of a step any more."""
        self._batches = None

    def count(self, loop: int) -> int:
        """A loop has made a step: its number."""
        step = self._loops.get(loop, 0)
        self._loops[loop] = step + 1
        return step

    def counts(self) -> dict[str, int]:
        """How many steps each loop has made, by its number; as JSON."""
        return {str(loop): steps for loop, steps in self._loops.items()}

    def count_from(self, counts: Mapping[str, int]) -> None:
        """Go on from there."""
        self._loops = {int(loop): steps for loop, steps in counts.items()}

    def may_include_step(self) -> bool:
        """Whether the step that goes on may have a line; of which loop it is shows only when it is done."""
        asked = self._trace
        if not asked.has_window:
            return True
        if self._batches is not None:
            return self.includes(self._batches)
        counts = self._loops.values() if asked.loop is None else [self._loops.get(asked.loop, 0)]
        return asked.fit is None and (asked.step in counts or (not counts and asked.step == 0))

    def includes(self, batches: Batches) -> bool:
        """Whether these steps of a `fit` have a line."""
        asked = self._trace
        if not asked.has_window:
            return True
        if asked.step is not None and not batches.first <= asked.step <= batches.last:
            return False
        return asked.fit == batches.fit and asked.epoch in {None, batches.epoch}

    def includes_step(self, loop: int, step: int) -> bool:
        """Whether this step of a loop has a line."""
        asked = self._trace
        return not asked.has_window or (asked.fit is None and asked.loop in {None, loop} and asked.step == step)

    def end_batches(self, batches: Batches) -> None:
        """Raise TraceEnded where the window is one step of these."""
        if self._trace.step is not None and self.includes(batches):
            raise TraceEnded(self._trace.message)

    def end_epoch(self, fit: int, epoch: int) -> None:
        """Raise TraceEnded where the window is this epoch."""
        self._end_with(Trace(level=self._trace.level, fit=fit, epoch=epoch))

    def end_fit(self, fit: int) -> None:
        """Raise TraceEnded where the window is this `fit`."""
        self._end_with(Trace(level=self._trace.level, fit=fit))

    def end_steps(self) -> None:
        """Raise TraceEnded where the loop that is asked for is past its step, or all are where none is named."""
        asked = self._trace
        if asked.step is None or asked.fit is not None:
            return
        counts = self._loops.values() if asked.loop is None else [self._loops.get(asked.loop, 0)]
        if counts and all(count > asked.step for count in counts):
            raise TraceEnded(asked.message)

    def _end_with(self, over: Trace) -> None:
        if self._trace == over:
            raise TraceEnded(over.message)
