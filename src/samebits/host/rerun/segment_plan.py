"""Divide a run into segments at its checkpoints, and group the segments into batches."""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from samebits.core.checkpoint_store import Position
from samebits.core.run_files import plain_lines
from samebits.host.audit.checkpoint_audit import CheckpointAudit
from samebits.host.console import log

_TRAINING_EVENTS = (b'"event":"epoch"', b'"event":"round"', b'"event":"step"')


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A part of a run: lines `before` + 1 to `last` of its ledger, of which `trained` record training.

    It begins at a checkpoint (None: the beginning) and ends at the next (None: the end of the run). `furthest` is the
    run's last checkpoint, for the name of a segment without an end.
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
        """The segment in a message: `phase 0, epochs 6 to 8`, or `phase 0, epoch 6`; both are trained."""
        to = self.end or self.furthest
        if to is None or (self.begin is not None and to.order <= self.begin.order):
            return "from the beginning to the end" if self.begin is None else f"{self.begin}, to the end"
        # In another phase, the segment begins with that phase's first epoch.
        first = self.begin.epoch if self.begin is not None and self.begin.phase == to.phase else 0
        last = to.epoch - 1
        return f"phase {to.phase}, " + (f"epoch {first}" if last <= first else f"epochs {first} to {last}")

    def __str__(self) -> str:
        return f"segment {self.number} ({self.where})"


SegmentBatch = tuple[Segment, ...]
"""Consecutive segments, which one run executes."""


def find_segments(checkpoints: CheckpointAudit) -> list[Segment]:
    """Divide a run at its usable checkpoints at the ends of epochs, if it trained before and after them."""
    training = _training_lines(checkpoints)
    positions = sorted(
        (position for position in checkpoints.good if position.step is None), key=lambda item: item.order
    )
    cuts = list(_cuts(checkpoints, positions, training))
    ends: list[Cut] = [*cuts[1:], (None, checkpoints.ledger.lines)]
    return [
        Segment(
            number=number,
            begin=begin,
            end=end,
            furthest=positions[-1] if positions else None,
            before=before,
            last=last,
            trained=max(1, bisect_right(training, last) - bisect_right(training, before)),
        )
        for number, ((begin, before), (end, last)) in enumerate(zip(cuts, ends, strict=True), 1)
    ]


Cut = tuple[Position | None, int]
"""A checkpoint and the ledger line that it was written after; None is the beginning, or the end."""


def _training_lines(checkpoints: CheckpointAudit) -> list[int]:
    """The numbers of the ledger lines that record training."""
    lines = enumerate(plain_lines(checkpoints.run.ledger), 1)
    return [number for number, line in lines if any(event in line for event in _TRAINING_EVENTS)]


def _cuts(checkpoints: CheckpointAudit, positions: Sequence[Position], training: list[int]) -> Iterator[Cut]:
    """Where segments begin."""
    yield None, 0
    previous = 0
    for position in positions:
        line = checkpoints.lines(position)
        trained = bisect_right(training, line)
        # Without training on both sides, one of the segments would have nothing to verify.
        if trained == bisect_right(training, previous) or trained == len(training):
            continue
        # A damaged checkpoint joins two segments: the run is still verified, in fewer parts.
        if wrong := checkpoints.wrong_with_needed(position):
            log(f"{wrong}; no segment begins there")
            continue
        yield position, line
        previous = line


def draw_sample(
    segments: Sequence[Segment], *, jobs: int = 1, sample: int | None = None, seed: int = 0
) -> list[SegmentBatch]:
    """The batches to execute: all segments in as many even batches as jobs, or a sample with its neighbours joined."""
    # A sample of all segments is the whole run, and is reported as such.
    if sample is None or sample >= len(segments):
        return cut_batches(segments, jobs)
    drawn = random.Random(seed).sample(range(len(segments)), sample)  # noqa: S311  no secret
    batches: list[list[Segment]] = []
    for segment in (segments[index] for index in sorted(drawn)):
        if batches and batches[-1][-1].number + 1 == segment.number:
            batches[-1].append(segment)
        else:
            batches.append([segment])
    return [tuple(batch) for batch in batches]


def cut_batches(segments: Sequence[Segment], most: int) -> list[SegmentBatch]:
    """Consecutive segments in at most `most` batches, each with about the same amount of training."""
    total, done = sum(segment.trained for segment in segments), 0
    batches: list[list[Segment]] = [[] for _ in range(most)]
    for segment in segments:
        # The batch in which the middle of the segment falls.
        middle = done + segment.trained / 2
        batches[min(most - 1, int(middle * most / total))].append(segment)
        done += segment.trained
    return [tuple(batch) for batch in batches if batch]


def split_where_dropped(batches: Sequence[SegmentBatch], is_kept: Callable[[Position], bool]) -> list[SegmentBatch]:
    """The batches, each ended where a run that trains it would keep no checkpoint to compare."""
    found: list[list[Segment]] = []
    for batch in batches:
        found.append([])
        for segment in batch:
            found[-1].append(segment)
            if segment.end is not None and segment is not batch[-1] and not is_kept(segment.end):
                found.append([])
    return [tuple(batch) for batch in found]
