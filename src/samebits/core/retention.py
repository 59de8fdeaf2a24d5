"""Which checkpoints a run writes and keeps."""

from dataclasses import dataclass
from typing import Any, Self

from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import Fields, parse_digits

ALL = "all"
LAST = "last"
NONE = "none"
_EVERY_STEPS = "every:"


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionPolicy:
    """Which checkpoints a run writes and keeps. It changes no bit of the result.

    A checkpoint is written at the end of epochs, and within epochs after every `every` steps. Where epochs are
    short, `fit` leaves out some that the next one would replace. Values of `keep`:

    - `all`: every checkpoint;
    - `last`: the last one of each phase, and the last but one of the run;
    - `every:N`: those after every Nth epoch, and what `last` keeps;
    - `none`: no checkpoint is written.

    A resumed run begins at the last but one, and must reproduce the last.
    """

    keep: str = LAST
    every: int | None = None

    def __post_init__(self) -> None:
        # `removeprefix` returns the same text if the prefix is missing.
        number = self.keep.removeprefix(_EVERY_STEPS)
        if self.keep not in (ALL, LAST, NONE) and not (number != self.keep and parse_digits(number)):
            raise InputError(f"keep must be all, last, none or every:N, not {self.keep[:40]!r}")
        if self.every is not None and self.every < 1:
            raise InputError(f"checkpoint-every must be 1 step or more, not {self.every}")
        if self.keep == NONE and self.every is not None:
            raise InputError("keep none writes no checkpoint; drop checkpoint-every")

    @property
    def writes(self) -> bool:
        """Whether the run writes checkpoints."""
        return self.keep != NONE

    def retains(self, epoch: int, step: int | None) -> bool:
        """Whether a checkpoint after so many epochs and steps is kept after a later one of its phase was written."""
        return self.keep == ALL or (
            self.keep.startswith(_EVERY_STEPS) and step is None and epoch % int(self.keep[len(_EVERY_STEPS) :]) == 0
        )

    def to_dict(self) -> dict[str, Any]:
        """As the record stores it."""
        return {"keep": self.keep, "every": self.every}

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Parse the output of `to_dict`; raises RecordError."""
        try:
            return cls(keep=fields.get("keep", str), every=fields.optional("every", int))
        except InputError as error:
            raise RecordError(f"'{fields.path('keep')}': {error}") from error


def every(epochs: int) -> str:
    """The value of `keep` for the checkpoints after every so many epochs."""
    return f"{_EVERY_STEPS}{epochs}"
