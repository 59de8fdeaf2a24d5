"""From which line on two ledgers part, and in what: read side by side, a line of each at a time."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from samebits.core.errors import RecordError
from samebits.core.jsonio import Fields
from samebits.core.recipe import leaves
from samebits.core.record import Record
from samebits.core.run_dir import RunDir

_CHAIN = re.compile(rb'"(?:line":\d+|previous":"sha256:[0-9a-f]{64}"|version":"[0-9.]+"),?')
_OF_THE_CHAIN = ("line", "previous", "version")
_STEP = b'"event":"step"'
LISTS = ("outputs", "gradients", "variables")
"""What a step's line lists at the level *tensor*, in the order in which a cause moves on."""

_WHERE = (
    ("fit", "fit"),
    ("loop", "loop"),
    ("epoch", "epoch"),
    ("step", "step"),
    ("stage", "phase"),
    ("round", "round"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergence:
    """The first lines that differ; one is None where that ledger has ended."""

    number: int
    one: Mapping[str, Any] | None
    other: Mapping[str, Any] | None

    def place(self, name: str) -> int | None:
        """`fit`, `loop`, `epoch`, `step`, `stage` or `round` of the line, where it has one."""
        value = (self.one or self.other or {}).get(name)
        return value if isinstance(value, int) else None

    @property
    def where(self) -> str:
        """For people: `fit 0, epoch 3, step 2`."""
        known = [f"{word} {self.place(name)}" for name, word in _WHERE if self.place(name) is not None]
        return ", ".join(known) or f"line {self.number}"

    def differences(self) -> Iterator[tuple[str, Any, Any]]:
        """Every value of the line that differs, by name; a listed tensor by its list and its own name."""
        before, after = (_named(line or {}) for line in (self.one, self.other))
        for name in [*before, *(name for name in after if name not in before)]:
            if before.get(name) != after.get(name):
                yield name, before.get(name), after.get(name)


def _named(line: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in LISTS:
        for number, item in enumerate(line.get(kind) or ()):  # objects, as `_parsed` has checked
            words = (kind, item.get("layer") or item.get("path"), item.get("part"))
            name = " ".join(str(word) for word in words if word is not None)
            found[name if name not in found else f"{name} ({number})"] = item
    rest = {name: value for name, value in line.items() if name not in LISTS}
    return found | leaves(rest)


def first_divergence(one: tuple[RunDir, Record], other: tuple[RunDir, Record]) -> Divergence | None:
    """Where two ledgers part; steps count only where both runs were traced alike. None where they do not."""
    steps = one[1].trace == other[1].trace
    ledgers = (_lines(run, steps=steps) for run, _ in (one, other))
    for before, after in itertools.zip_longest(*ledgers):
        if before is None or after is None or before.content != after.content:
            number = (before or after).number
            return Divergence(number=number, one=_parsed(one[0], before), other=_parsed(other[0], after))
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """A line of a file: as it stands, and without what chains it, which differs from the first on where recipes do."""

    number: int
    content: bytes
    raw: bytes


def _lines(run: RunDir, *, steps: bool) -> Iterator[_Line]:
    try:
        with run.ledger.open("rb") as file:
            for number, line in enumerate(file, 1):
                if steps or _STEP not in line:
                    yield _Line(number=number, content=_CHAIN.sub(b"", line.rstrip(b"\n")), raw=line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RecordError(f"cannot read {run.ledger}: {error.strerror}") from error


def _parsed(run: RunDir, line: _Line | None) -> dict[str, Any] | None:
    if line is None:
        return None
    where = f"{run.ledger}: line {line.number} is not a ledger's"
    try:
        fields = Fields(json.loads(line.raw))
        for kind in LISTS:
            if kind in fields.given():
                fields.objects(kind)
    except (ValueError, RecursionError, RecordError) as error:
        raise RecordError(f"{where}: {error}") from error
    return fields.rest(*_OF_THE_CHAIN)
