"""Whether a run's ledger is as it was written, and agrees with its record: what is wrong, by line."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import RecordError, pluralize
from samebits.core.jsonio import Fields
from samebits.core.ledger import LEDGER_VERSION
from samebits.core.record import Record
from samebits.host.audit.hash_chain import Chain, LineLink
from samebits.host.audit.record_consistency import RecordConsistency
from samebits.host.audit.tamper_report import find_problems


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerCheck:
    """What a ledger was found to be: how many whole lines, all that is wrong, and whether its end was cut off.

    `torn` is no problem: an unsealed run's last line is lost where power is, and nothing else says what it held.
    """

    lines: int
    problems: tuple[str, ...] = ()
    torn: bool = False

    def describe(self) -> str:
        """In one line; of problems only how many there are."""
        if self.problems:
            return f"{pluralize(self.lines)}, and {pluralize(len(self.problems), 'problem')}"
        followed = f"{pluralize(self.lines)}, each follows the one before"
        if not self.torn:
            return followed
        them = "it" if self.lines == 1 else "them"
        return f"{followed}; after {them} a line that was cut off (power was lost or the disk was full)"


def check_ledger(path: Path, record: Record) -> LedgerCheck:
    """Follow the chain from the recipe to the end that the record names; compare what the lines say with its result.

    The file is read once, line by line.
    """
    reading = _Reading(record)
    try:
        with path.open("rb") as file:
            for raw in file:
                reading.take(raw)
    except OSError as error:
        named = "" if reading.end is None else f", and the record names {pluralize(reading.end.lines)}"
        return LedgerCheck(lines=reading.lines, problems=(f"cannot read {path}: {error.strerror}{named}",))
    return reading.conclude()


class _Reading:
    """One pass over a ledger. What a line says counts once the next one, or the record, confirms its digest."""

    def __init__(self, record: Record) -> None:
        self.end = record.ledger
        self.lines = 0
        self._chain = Chain(str(record.recipe.digest), self.end)
        self._agreement = RecordConsistency(record.result)
        self._waiting: tuple[int, str, dict[str, Any]] | None = None
        self._garbled: str | None = None  # whether it is the last line decides what it means
        self._torn = False

    def take(self, raw: bytes) -> None:
        """One line of the file."""
        self._pass_garbled()
        line = raw.removesuffix(b"\n")
        if line == raw:
            self._pass_cut()
            return
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            self._garbled = "it holds NUL bytes, as a power cut leaves them" if b"\0" in line else "it is not JSON"
            return
        self.lines += 1
        try:
            link = _link(values, line)
        except RecordError as error:
            self._pass_unreadable(str(error))
        else:
            self._settle(confirmed=self._chain.add(link))
            self._waiting = link.number or self.lines, link.digest, values

    def conclude(self) -> LedgerCheck:
        """After the last line."""
        if self.end is None and self._garbled is not None:
            self._torn = True
        else:
            self._pass_garbled()
        self._settle(confirmed=self._ends_well())
        problems = find_problems(self._chain)
        if problems:
            self._agreement.gap()
        problems += self._agreement.finish()
        return LedgerCheck(lines=self.lines, problems=tuple(text for _, text in sorted(problems)), torn=self._torn)

    def _ends_well(self) -> bool:
        """Whether the record confirms the last line; of an unsealed one nobody can tell."""
        return self.end is None or (self._waiting is not None and self._waiting[1] == self.end.last)

    def _settle(self, *, confirmed: bool) -> None:
        """The line before is as it was written, or may not be."""
        if not confirmed:
            self._agreement.gap()
        elif self._waiting is not None:
            number, _, values = self._waiting
            if self.end is None or number <= self.end.lines:
                self._agreement.add(number, values)
        self._waiting = None

    def _pass_garbled(self) -> None:
        if self._garbled is not None:
            self.lines += 1
            self._pass_unreadable(self._garbled)
            self._garbled = None

    def _pass_unreadable(self, reason: str) -> None:
        self._settle(confirmed=False)
        self._chain.add_unreadable(reason)

    def _pass_cut(self) -> None:
        if self.end is None:
            self._torn = True
        else:
            self._settle(confirmed=False)
            self._chain.add_unreadable("it is cut off", cut=True)


def _link(values: object, line: bytes) -> LineLink:
    """What chains a line; raises RecordError where it is none of a ledger's, or of a version to come."""
    if not isinstance(values, dict):
        raise RecordError("it holds no object")
    fields = Fields(values)
    needs_number = _is_numbered(fields.get("version", str))
    number = fields.get("line", int) if needs_number or "line" in values else None
    if number is not None and number < 1:
        raise RecordError(f"'line' must be 1 or more, not {number}")
    return LineLink(number=number, previous=fields.get("previous", str), digest=str(Digest.of_bytes(line)))


@lru_cache(maxsize=8)  # all lines of a ledger have the same
def _is_numbered(version: str) -> bool:
    """Whether lines of this version carry their numbers; raises RecordError for one that cannot be read."""
    major, _, minor = version.partition(".")
    if major != "1" or not minor.isdecimal():
        raise RecordError(f"its version is {version!r}, and this samebits reads {LEDGER_VERSION}; try a newer one")
    return minor != "0"
