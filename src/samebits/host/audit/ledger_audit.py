"""Check that a run's ledger is as it was written and agrees with its record; list every problem by line."""

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
from samebits.core.run_files import plain_lines
from samebits.host.audit.hash_chain import HashChain, LineLink
from samebits.host.audit.record_consistency import RecordConsistency
from samebits.host.audit.tamper_report import find_problems


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerCheck:
    """How many whole lines a ledger has, every problem, and whether its last line was cut off.

    `torn` is not a problem: a run that loses power loses its last line. A finalized run cannot be torn.
    """

    lines: int
    problems: tuple[str, ...] = ()
    torn: bool = False

    def describe(self) -> str:
        """A one-line summary; of the problems only their number."""
        if self.problems:
            return f"{pluralize(self.lines)}, and {pluralize(len(self.problems), 'problem')}"
        followed = f"{pluralize(self.lines)}, each follows the one before"
        if not self.torn:
            return followed
        them = "it" if self.lines == 1 else "them"
        return f"{followed}; after {them} a line that was cut off (power was lost or the disk was full)"


def check_ledger(path: Path, record: Record) -> LedgerCheck:
    """Follow the chain from the recipe to the end that the record names, and compare the lines with its result.

    Reads the file once, line by line.
    """
    reading = _Reading(record)
    try:
        for raw in plain_lines(path):
            reading.take(raw)
    except OSError as error:
        # A missing ledger is a problem of the run, not an error of the command: it is reported with the others.
        named = "" if reading.end is None else f", and the record names {pluralize(reading.end.lines)}"
        return LedgerCheck(lines=reading.lines, problems=(f"cannot read {path}: {error.strerror}{named}",))
    return reading.conclude()


class _Reading:
    """One pass over a ledger. A line's values count once the next line, or the record, confirms its digest."""

    def __init__(self, record: Record) -> None:
        self.end = record.ledger
        self.lines = 0
        self._chain = HashChain(str(record.recipe.digest), self.end)
        self._consistency = RecordConsistency(record.result)
        # The line that waits for its confirmation: number, digest and values.
        self._waiting: tuple[int, str, dict[str, Any]] | None = None
        self._garbled: str | None = None  # held back: at the end of an unfinalized ledger it is torn, elsewhere edited
        self._torn = False

    def take(self, raw: bytes) -> None:
        """Read one line of the file."""
        self._flush_garbled()
        line = raw.removesuffix(b"\n")
        if line == raw:
            self._add_cut()
            return
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            self._garbled = "it holds NUL bytes, as a power cut leaves them" if b"\0" in line else "it is not JSON"
            return
        self.lines += 1
        try:
            link = parse_link(values, line)
        except RecordError as error:
            self._add_unreadable(str(error))
        else:
            self._settle(confirmed=self._chain.add(link))
            self._waiting = link.number or self.lines, link.digest, values

    def conclude(self) -> LedgerCheck:
        """The result, after the last line."""
        # Without a final record, garbage at the end is what a power cut leaves.
        if self.end is None and self._garbled is not None:
            self._torn = True
        else:
            self._flush_garbled()
        self._settle(confirmed=self._is_end_confirmed())
        # Problems are found before values are compared, so that an edited line is not reported twice.
        problems = find_problems(self._chain)
        # After an edit, only disagreements count: a value that is absent may be in a line that is gone.
        if problems:
            self._consistency.gap()
        problems += self._consistency.finish()
        return LedgerCheck(lines=self.lines, problems=tuple(text for _, text in sorted(problems)), torn=self._torn)

    def _is_end_confirmed(self) -> bool:
        """Whether the record confirms the last line; a run that is not finalized names none."""
        return self.end is None or (self._waiting is not None and self._waiting[1] == self.end.last)

    def _settle(self, *, confirmed: bool) -> None:
        """Compare the line that was waiting, if its digest is confirmed."""
        if not confirmed:
            self._consistency.gap()
        elif self._waiting is not None:
            number, _, values = self._waiting
            # Lines after the record's end are reported as added; their values are of no interest.
            if self.end is None or number <= self.end.lines:
                self._consistency.add(number, values)
        self._waiting = None

    def _flush_garbled(self) -> None:
        if self._garbled is not None:
            self.lines += 1
            self._add_unreadable(self._garbled)
            self._garbled = None

    def _add_unreadable(self, reason: str) -> None:
        self._settle(confirmed=False)
        self._chain.add_unreadable(reason)

    def _add_cut(self) -> None:
        if self.end is None:
            self._torn = True
        else:
            self._add_unreadable("it is cut off")


def parse_link(values: object, line: bytes) -> LineLink:
    """What chains a line; raises RecordError where it is not a ledger's line, or of an unknown version."""
    if not isinstance(values, dict):
        raise RecordError("it is not an object")
    fields = Fields(values)
    needs_number = _is_numbered(fields.get("version", str))
    number = fields.get("line", int) if needs_number or "line" in values else None
    if number is not None and number < 1:
        raise RecordError(f"'line' must be 1 or more, not {number}")
    return LineLink(number=number, previous=fields.get("previous", str), digest=str(Digest.of_bytes(line)))


@lru_cache(maxsize=8)  # all lines of a ledger have one version
def _is_numbered(version: str) -> bool:
    """Whether lines of this version carry their numbers; raises RecordError for an unknown version."""
    # A newer minor version only adds keys.
    major, _, minor = version.partition(".")
    if major != "1" or not minor.isdecimal():
        raise RecordError(f"its version is {version!r}, and this samebits reads {LEDGER_VERSION}; try a newer one")
    return minor != "0"
