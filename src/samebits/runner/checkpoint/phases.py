"""What every phase of a run has, what it adds to a checkpoint, and what observes the training."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from samebits.core.checkpoint_store import Position
from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError
from samebits.runner.checkpoint.state.capture import StateCapture
from samebits.runner.checkpoint.state.encoding import UncapturableError
from samebits.runner.checkpoint.state.initial_objects import InitialObjects
from samebits.runner.checkpoint.state.restorability import check_restorable

DigestedValues = Mapping[int, tuple[Any, Digest]]


class TrainingObserver(Protocol):
    """Observes training. What it has seen before a checkpoint is restored in the resumed run."""

    def work(self) -> AbstractContextManager[None]:
        """A context for samebits' own work while the script runs."""

    def digested(self) -> DigestedValues:
        """Values and digests of the variables in the ledger's last line, by `id`. The first call forgets them."""

    def observations(self) -> dict[str, Any]:
        """What was observed so far, as JSON."""

    def restore_observations(self, saved: Mapping[str, Any]) -> None:
        """Restore what `observations` returned."""

    def first_steps(self) -> Sequence[Any]:
        """The optimizers that made a step, in the order of their first steps."""

    def stepped(self, optimizer: Any) -> None:
        """Note that an optimizer has made a step."""


@dataclass(kw_only=True, slots=True)
class Phase:
    """One call of `fit`, or one loop: the roots of its state, and the `initial` state, captured when it began.

    `objects` are those that it was captured from. `settings` are those of the process at that time, see
    `process_settings`; `stepped` is how many optimizers had made steps.
    """

    number: int
    roots: dict[str, Any] = field(default_factory=dict)
    initial: Mapping[str, Any] = field(default_factory=dict)
    objects: InitialObjects | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    stepped: int = 0

    def check(self, captured: StateCapture) -> None:
        """Raise UncapturableError unless a resumed run could restore captured state into the initial one."""
        check_restorable(captured.encoded, self.initial)
        self.mark(captured)

    def mark(self, captured: StateCapture) -> None:
        """Mark what is not to be restored into the object in its place. Raises UncapturableError."""
        if self.objects is not None:
            self.objects.mark(captured)


@dataclass(frozen=True, kw_only=True, slots=True)
class StatePart:
    """What one kind of phase adds to a checkpoint: values, and the bytes that they refer to."""

    values: Mapping[str, Any]
    contents: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def as_input_error(start: Position | None) -> Iterator[None]:
    """Turn errors while state is restored into an InputError."""
    try:
        yield
    except (UncapturableError, RecordError) as error:
        raise InputError(f"cannot resume from {start}: {error}; train again") from error
