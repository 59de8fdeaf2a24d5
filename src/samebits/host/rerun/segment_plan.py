"""How a run is cut into segments at its checkpoints, and which of them are executed in one go."""

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from samebits.core.checkpoint_store import Position
from samebits.host.audit.checkpoint_audit import CheckpointAudit
from samebits.host.console import log

_TRAINED = (b'"event":"epoch"', b'"event":"round"', b'"event":"step"')


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A part of a run: lines `before` + 1 to `last` of its ledger, in which `trained` lines tell of training.

    It begins at a checkpoint (None: the beginning) and ends at the next (None: the end of the run); `furthest` is the
    last checkpoint in it, for its name.
    """

    number: int
    begin: Position | None
    end: Position | None
    furthest: Position | None
    before: int
    last: int
    trained: int

    @property
    def where(self) -> str:
        """For people: `stage 0, epochs 6 to 7`."""
        to = self.end or self.furthest
        if to is None or (self.begin is not None and to.order <= self.begin.order):
            return "from the beginning to the end" if self.begin is None else f"{self.begin}, to the end"
        first = self.begin.epoch if self.begin is not None and self.begin.phase == to.phase else 0
        return f"phase {to.phase}, epochs {first} to {to.epoch}"

    def __str__(self) -> str:
        return f"segment {self.number} ({self.where})"


SegmentBatch = tuple[Segment, ...]
"""Consecutive segments, executed in one go."""


def find_segments(checkpoints: CheckpointAudit) -> list[Segment]:
    """Cut a run at its whole checkpoints at the ends of epochs, wherever something was trained before and behind."""
    trained = [
        number
        for number, line in enumerate(_ledger(checkpoints), 1)
        if any(event in line for event in _TRAINED)
    ]  # fmt: skip
    cuts: list[tuple[Position | None, int]] = [(None, 0)]
    places = sorted((place for place in checkpoints.good if place.step is None), key=lambda place: place.order)
    for place in places:
        line = checkpoints.lines(place)
        inside = bisect_right(trained, line) - bisect_right(trained, cuts[-1][1])
        if not inside or bisect_right(trained, line) == len(trained):
            continue
        if wrong := checkpoints.wrong_with_needed(place):
            log(f"{wrong}; no segment begins there")
            continue
        cuts.append((place, line))
    ends: list[tuple[Position | None, int]] = [*cuts[1:], (None, checkpoints.ledger.lines)]
    return [
        Segment(
            number=number,
            begin=begin,
            end=end,
            furthest=places[-1] if places else None,
            before=before,
            last=last,
            trained=max(1, bisect_right(trained, last) - bisect_right(trained, before)),
        )
        for number, ((begin, before), (end, last)) in enumerate(zip(cuts, ends, strict=True), 1)
    ]


def _ledger(checkpoints: CheckpointAudit) -> Iterator[bytes]:
    with checkpoints.run.ledger.open("rb") as file:
        yield from file


def draw_sample(
    segments: Sequence[Segment], *, jobs: int = 1, sample: int | None = None, seed: int = 0
) -> list[SegmentBatch]:
    """What is executed in one go: as many even stretches as jobs, or what was drawn, neighbours together."""
    if sample is None or sample >= len(segments):
        return cut_batches(segments, jobs)
    drawn = random.Random(seed).sample(range(len(segments)), sample)  # noqa: S311  no secret
    stretches: list[list[Segment]] = []
    for segment in (segments[index] for index in sorted(drawn)):
        if stretches and stretches[-1][-1].number + 1 == segment.number:
            stretches[-1].append(segment)
        else:
            stretches.append([segment])
    return [tuple(stretch) for stretch in stretches]


def cut_batches(segments: Sequence[Segment], parts: int) -> list[SegmentBatch]:
    """Consecutive segments in at most so many stretches, each with about as much training."""
    total, done = sum(segment.trained for segment in segments), 0
    stretches: list[list[Segment]] = [[] for _ in range(parts)]
    for segment in segments:
        middle = done + segment.trained / 2
        stretches[min(parts - 1, int(middle * parts / total))].append(segment)
        done += segment.trained
    return [tuple(stretch) for stretch in stretches if stretch]
