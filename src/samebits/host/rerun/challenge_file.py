"""A challenge: digests of one run, by which two parties who share no weights find where their runs diverge.

The file holds no weights, data, code or metrics: the digest of each line of the ledger, of each step of one epoch, and
of each tensor of one step. What a party gave once binds it: the tensors must have the digest of their step, and `seen`
in the other party's file remembers the rest.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from samebits.core.digest import Digest, confirmed_fields, digest_of_read, with_checksum
from samebits.core.errors import InputError, RecordError, pluralize
from samebits.core.jsonio import Fields, read_json, readable_json, reading, write_atomically
from samebits.host.compare.ledger_diff import TENSOR_LISTS

CHALLENGE_FORMAT = "samebits.challenge"
CHALLENGE_VERSION = "1.0"
MAX_DIGESTS = 100_000
"""Lines of a ledger, or steps of an epoch, that a challenge may hold."""

_ID = re.compile(r"[\w.-]{1,200}")
Place = tuple[int | None, int | None]
"""A `fit` and its epoch; None for a line that is not the end of an epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedDigest:
    """The digest of a line of a ledger, without the keys of its chain, and the place of the line."""

    digest: Digest
    fit: int | None = None
    epoch: int | None = None
    step: int | None = None

    @classmethod
    def of_line(cls, values: Mapping[str, Any]) -> Self:
        """The digest of a line's values."""
        places = {name: values.get(name) for name in ("fit", "epoch", "step")}
        return cls(digest=digest_of_read(values), **places)

    @property
    def where(self) -> str:
        """The place in a message; empty for a line that has none."""
        known = {"fit": self.fit, "epoch": self.epoch, "step": self.step}
        return ", ".join(f"{name} {number}" for name, number in known.items() if number is not None)

    def to_dict(self) -> dict[str, Any]:
        """The form in the file."""
        places = {"fit": self.fit, "epoch": self.epoch, "step": self.step}
        return {"digest": str(self.digest)} | {name: place for name, place in places.items() if place is not None}

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Read what `to_dict` wrote; raises RecordError."""
        places = {name: _place(fields, name) for name in ("fit", "epoch", "step")}
        return cls(digest=fields.parse("digest", Digest.parse), **places)


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedEpoch:
    """The steps of one epoch, as its run trained them again. `line` lists the tensors of one of them, by digest."""

    steps: tuple[PlacedDigest, ...]
    line: Mapping[str, Any] | None = None

    @property
    def place(self) -> Place:
        """The epoch."""
        return self.steps[0].fit, self.steps[0].epoch

    def to_dict(self) -> dict[str, Any]:
        """The form in the file."""
        return {"steps": [step.to_dict() for step in self.steps], "line": self.line}

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Read what `to_dict` wrote; raises RecordError where the parts contradict each other."""
        steps = _digests(fields, "steps")
        if not steps:
            raise RecordError(f"'{fields.path('steps')}' is empty")
        if any(None in (step.fit, step.epoch, step.step) for step in steps):
            raise RecordError(f"'{fields.path('steps')}' names no place for a step")
        for one, other in itertools.pairwise(steps):
            if (one.fit, one.epoch) != (other.fit, other.epoch) or (one.step or 0) >= (other.step or 0):
                raise RecordError(f"'{fields.path('steps')}' must be the steps of one epoch, in order")
        line = fields.optional_inner("line")
        if line is None:
            return cls(steps=steps)
        _require_listed(line)
        found = PlacedDigest.of_line(line.rest())
        # What was given as a digest before, in this file or an earlier one, now binds.
        if found not in steps:
            raise RecordError(f"'{fields.path('line')}' has another digest than its step in '{fields.path('steps')}'")
        return cls(steps=steps, line=line.rest())


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenChallenge:
    """What another party gave: the checksum of its record, and digests of its ledger and of its steps."""

    record: Digest
    ledger: Digest
    steps: Digest | None

    def to_dict(self) -> dict[str, Any]:
        """The form in the file."""
        steps = None if self.steps is None else str(self.steps)
        return {"record": str(self.record), "ledger": str(self.ledger), "steps": steps}

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Read what `to_dict` wrote; raises RecordError."""
        return cls(
            record=fields.parse("record", Digest.parse),
            ledger=fields.parse("ledger", Digest.parse),
            steps=None if fields.optional("steps", str) is None else fields.parse("steps", Digest.parse),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """One party's file. `record` is the checksum of its run's record; `seen` is what the other party gave so far."""

    run: str
    record: Digest
    recipe: Digest
    result: Digest
    ledger: tuple[PlacedDigest, ...]
    traced: TracedEpoch | None = None
    seen: SeenChallenge | None = None

    @property
    def given(self) -> SeenChallenge:
        """What the reader of this file remembers of it."""
        steps = None if self.traced is None else _digest_of(self.traced.steps)
        return SeenChallenge(record=self.record, ledger=_digest_of(self.ledger), steps=steps)

    def require_as_seen(self, seen: SeenChallenge | None) -> None:
        """Raise RecordError if this party gave something else before."""
        if seen is None:
            return
        given = self.given
        if given.record != seen.record:
            raise RecordError(f"it is of the run {self.run}, and an earlier one was of another run")
        if given.ledger != seen.ledger:
            raise RecordError("its ledger is not the one that it gave before")
        if seen.steps is not None and given.steps != seen.steps:
            raise RecordError("its steps are not those that it gave before")

    def to_dict(self) -> dict[str, Any]:
        """The file."""
        return with_checksum(
            {
                "format": CHALLENGE_FORMAT,
                "version": CHALLENGE_VERSION,
                "run": self.run,
                "record": str(self.record),
                "recipe": str(self.recipe),
                "result": str(self.result),
                "ledger": [line.to_dict() for line in self.ledger],
                "traced": None if self.traced is None else self.traced.to_dict(),
                "seen": None if self.seen is None else self.seen.to_dict(),
            }
        )

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Read what `to_dict` wrote; raises RecordError."""
        traced, seen = fields.optional_inner("traced"), fields.optional_inner("seen")
        return cls(
            run=fields.parse("run", _run_id),
            record=fields.parse("record", Digest.parse),
            recipe=fields.parse("recipe", Digest.parse),
            result=fields.parse("result", Digest.parse),
            ledger=_digests(fields, "ledger"),
            traced=None if traced is None else TracedEpoch.from_fields(traced),
            seen=None if seen is None else SeenChallenge.from_fields(seen),
        )


def read_challenge(path: Path) -> Challenge:
    """Read a party's file, which may be a stranger's; raises RecordError, which names it."""
    value = read_json(path)
    with reading(path):
        fields = confirmed_fields(value, CHALLENGE_FORMAT, CHALLENGE_VERSION)
        return Challenge.from_fields(fields)


def write_challenge(path: Path, challenge: Challenge) -> None:
    """Write a party's file atomically; raises InputError for one that would be refused as too long."""
    steps = () if challenge.traced is None else challenge.traced.steps
    for what, digests in (("lines of a ledger", challenge.ledger), ("steps of an epoch", steps)):
        if len(digests) > MAX_DIGESTS:
            raise InputError(f"a challenge holds at most {MAX_DIGESTS:,} {what}, and {challenge.run} has more")
    write_atomically(path, readable_json(challenge.to_dict()))


def first_difference(ours: Sequence[PlacedDigest], theirs: Sequence[PlacedDigest]) -> int | None:
    """The first index at which two lists differ; raises RecordError where a place of theirs contradicts its digest."""
    for index, (own, other) in enumerate(itertools.zip_longest(ours, theirs)):
        if own == other:
            continue
        # A digest covers its place.
        if own is not None and other is not None and own.digest == other.digest:
            places = [place.where or "another line" for place in (other, own)]
            raise RecordError(f"it gives {places[0]} for the digest of {places[1]}")
        return index
    return None


def _digest_of(digests: Sequence[PlacedDigest]) -> Digest:
    return Digest.of_json([item.to_dict() for item in digests])


def _digests(fields: Fields, name: str) -> tuple[PlacedDigest, ...]:
    found = fields.objects(name)
    if len(found) > MAX_DIGESTS:
        raise RecordError(f"'{fields.path(name)}' has more than {pluralize(MAX_DIGESTS, 'digest')}")
    return tuple(PlacedDigest.from_fields(item) for item in found)


def _place(fields: Fields, name: str) -> int | None:
    number = fields.optional(name, int)
    if number is not None and not 0 <= number < 1 << 63:
        raise RecordError(f"'{fields.path(name)}' must be 0 or more, and below 2**63")
    return number


def _run_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise RecordError(f"{text[:40]!r} is no id of a run")
    return text


def _require_listed(line: Fields) -> None:
    """Raise RecordError unless a line holds flat values, and lists of flat tensors."""
    for name in line.given():
        if name in TENSOR_LISTS:
            for item in line.objects(name):
                wrong = [key for key, value in item.rest().items() if not _is_flat(value)]
                if wrong:
                    raise RecordError(f"'{item.path(wrong[0])}' is no value of a tensor")
        elif name == "tensors":
            line.mapping(name, str)
        elif not _is_flat(line.rest()[name]):
            raise RecordError(f"'{line.path(name)}' is no value of a step")


def _is_flat(value: object) -> bool:
    if isinstance(value, list):
        return all(type(size) is int for size in value)
    return value is None or isinstance(value, (str, int))
