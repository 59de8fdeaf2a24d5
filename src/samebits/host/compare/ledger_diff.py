"""The first line at which two ledgers diverge, and the values that differ there."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from samebits.core.errors import RecordError
from samebits.core.jsonio import Fields, canonical_json, parse_json
from samebits.core.recipe import leaves
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.core.run_files import plain_lines

# Matched on bytes, as parsing every line as JSON is much slower.
_CHAIN = re.compile(rb'"(?:line":\d+|previous":"sha256:[0-9a-f]{64}"|version":"[0-9.]+"),?')
CHAIN_KEYS = ("line", "previous", "version")
_NO_NUMBER = b'"version":"1.0"'
_STEP = b'"event":"step"'
_HASH = re.compile(rb'"tensors":\{"[^"]*":"([^":]+):')
TENSOR_LISTS = ("outputs", "gradients", "variables")
"""The lists of a step's line at the trace level *tensor*, in the order in which a difference spreads."""

_POSITION_KEYS = (
    ("fit", "fit"),
    ("loop", "loop"),
    ("epoch", "epoch"),
    ("step", "step"),
    ("stage", "phase"),
    ("round", "round"),
)
"""Keys of a ledger line, and how they are named in messages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergence:
    """The first two lines that differ. One of them is None if its ledger has ended; `numbers` counts both from 1."""

    number: int
    one: Mapping[str, Any] | None
    other: Mapping[str, Any] | None
    numbers: tuple[int | None, int | None] = (None, None)

    def place(self, name: str) -> int | None:
        """The line's `fit`, `loop`, `epoch`, `step`, `stage` or `round`; None if it has no such key."""
        value = (self.one or self.other or {}).get(name)
        return value if isinstance(value, int) else None

    @property
    def where(self) -> str:
        """The position in a message: `fit 0, epoch 3, step 2`."""
        known = [f"{label} {self.place(key)}" for key, label in _POSITION_KEYS if self.place(key) is not None]
        return ", ".join(known) or f"line {self.number}"

    def differences(self) -> Iterator[tuple[str, Any, Any]]:
        """Every value that differs, with its name; a listed tensor is named by its list and its own path."""
        # Names of both lines, in the order in which they appear.
        before, after = (_flatten(line or {}) for line in (self.one, self.other))
        for name in [*before, *(name for name in after if name not in before)]:
            if before.get(name) != after.get(name):
                yield name, before.get(name), after.get(name)


def _flatten(line: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a line by name."""
    found: dict[str, Any] = {}
    for kind in TENSOR_LISTS:
        # `line_values` has checked that the items are objects.
        for number, item in enumerate(line.get(kind) or ()):
            parts = (kind, item.get("layer") or item.get("path"), item.get("part"))
            name = " ".join(str(part) for part in parts if part is not None)
            # A layer that is called twice has two outputs of one name.
            found[name if name not in found else f"{name} ({number})"] = item
    rest = {name: value for name, value in line.items() if name not in TENSOR_LISTS}
    return found | leaves(rest)


def first_divergence(one: tuple[RunDir, Record], other: tuple[RunDir, Record]) -> Divergence | None:
    """Where two ledgers diverge; None if they agree.

    Lines of steps count only if both runs have the same trace, and digests by the same hash.
    """
    trace = one[1].trace
    # Without lines of steps, looking for the first would read both ledgers to their ends.
    steps = trace == other[1].trace and (not trace.steps or _steps_have_one_hash(one[0], other[0]))
    ledgers = (read_lines(run, steps=steps) for run, _ in (one, other))
    # Two lines are in memory at a time: ledgers with a line per step may have gigabytes.
    for before, after in itertools.zip_longest(*ledgers):
        if before is None or after is None or before.content != after.content:
            return Divergence(
                number=(before or after).number,
                one=line_values(one[0], before),
                other=line_values(other[0], after),
                numbers=(before.number if before else None, after.number if after else None),
            )
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerLine:
    """A line of a file: `raw`, and its `content` without the keys of the chain.

    Between two recipes, every line's digest of the line before differs, so the chain says nothing about divergence.
    """

    number: int
    content: bytes
    raw: bytes


def read_lines(run: RunDir, *, steps: bool) -> Iterator[LedgerLine]:
    """The lines of a run's ledger, those of `steps` included or not; raises RecordError where it cannot be read."""
    try:
        for number, line in enumerate(plain_lines(run.ledger), 1):
            if steps or _STEP not in line:
                yield LedgerLine(number=number, content=_content(line.rstrip(b"\n")), raw=line)
    # A run that failed early has no ledger; it ends before the first line of the other.
    except FileNotFoundError:
        return
    except OSError as error:
        raise RecordError(f"cannot read {run.ledger}: {error.strerror}") from error


def _steps_have_one_hash(*runs: RunDir) -> bool:
    """Whether no two ledgers have steps by different hashes; one that ended before its first step has none."""
    return len({_step_hash(run) for run in runs} - {None}) < 2


def _step_hash(run: RunDir) -> bytes | None:
    """The hash of the first line of a step, such as `xxh3-128`; None if there is no such line."""
    with suppress(OSError):  # `read_lines` reports it
        for line in plain_lines(run.ledger):
            if _STEP in line and (found := _HASH.search(line)):
                return found[1]
    return None


def _content(line: bytes) -> bytes:
    """A line without the keys of the chain; keys of the same names inside, as a metric has them, stay."""
    content, removed = _CHAIN.subn(b"", line)
    # One match for each key is the chain's own; a further one lies deeper in the line.
    if removed == len(CHAIN_KEYS) - (_NO_NUMBER in line):
        return content
    try:
        return canonical_json(Fields(json.loads(line)).rest(*CHAIN_KEYS))
    except (ValueError, RecursionError, RecordError):
        return line  # not a ledger's line: it is compared as it is


def line_values(run: RunDir, line: LedgerLine | None) -> dict[str, Any] | None:
    """The values of a line without those of the chain; raises RecordError where it is not a ledger's."""
    if line is None:
        return None
    try:
        fields = Fields(parse_json(line.raw))
        for kind in fields.given().intersection(TENSOR_LISTS):
            fields.objects(kind)
    except (ValueError, RecordError) as error:
        raise RecordError(f"{run.ledger}: line {line.number} is not a ledger line: {error}") from error
    return fields.rest(*CHAIN_KEYS)
