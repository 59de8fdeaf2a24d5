"""A run as lists show it: the cells of its row, and the summary of its record."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import RecordError
from samebits.core.liveness import Host, RunProcess
from samebits.core.printable import printable
from samebits.core.record import Outcome
from samebits.core.record_summary import RecordSummary, read_summary
from samebits.core.run_dir import RunDir
from samebits.host.runs.verification_file import read_verification

COLUMNS = ("run", "outcome", "seconds", "seed", "recipe", "result", "script", "arguments", "metrics", "note")
_MAX_ARGUMENTS = 40  # characters of a row
_MAX_METRICS = 4
_MAX_METRICS_TEXT = 120  # characters of a row: a script names its metrics
_NUMBER = re.compile(r"-[0-9a-f]{8}-(\d{1,3})$")
"""At the end of a name: the number that `claim` gave to a name which existed."""

Packed = tuple[bytes, bytes]
"""The row: a line each for the start in seconds, the number of the name, and the cells. And the summary, as JSON."""


class ListedRun:
    """A run as a list shows it.

    `cells` are those of its row, `start` sorts runs by their start. `late` are the names of late records, `note` says
    which run it verifies or resumes. The summary is read when it is asked for, as there may be thousands of runs.
    """

    __slots__ = ("_parsed", "_runs", "_summary_of", "cells", "name", "start")

    def __init__(self, runs: Path, name: str, row: bytes, summary_of: Callable[[str], bytes]) -> None:
        """Of a packed row, and what gives the packed summary of the run with a name. Raises ValueError for no row."""
        seconds, number, *self.cells = row.decode("utf-8", "surrogatepass").split("\n")
        self._runs, self.name, self._summary_of = runs, name, summary_of
        self.start = float(seconds), int(number), name
        self._parsed: tuple[RecordSummary, tuple[str, ...], str] | None = None

    @property
    def folder(self) -> RunDir:
        """The run's folder."""
        return RunDir(self._runs / self.name)

    @property
    def summary(self) -> RecordSummary:
        """What the record says."""
        return self._values()[0]

    @property
    def late(self) -> tuple[str, ...]:
        """The names of late records."""
        return self._values()[1]

    @property
    def note(self) -> str:
        """Which run it verifies, with the verdict, or resumes."""
        return self._values()[2]

    def _values(self) -> tuple[RecordSummary, tuple[str, ...], str]:
        if self._parsed is None:
            values, late, note = json.loads(self._summary_of(self.name))
            self._parsed = _summary(values), tuple(late), note
        return self._parsed


def read_listed(folder: RunDir) -> tuple[Packed, bool]:
    """What a list shows of a run now, packed, and whether its record is finalized; raises RecordError, OSError."""
    recorded = read_summary(folder.record)
    late = tuple(path.name for path in folder.late_records())
    summary = folder.as_of_now(recorded)
    return pack(folder.path.name, summary, late, _note(folder, summary)), recorded.finalized


def pack(name: str, summary: RecordSummary, late: tuple[str, ...], note: str) -> Packed:
    """What `ListedRun` is made of."""
    seconds, number, _ = start_key(name, summary.started)
    # A cell holds no line break once it is printable.
    cells = (printable(cell) for cell in _cells(name, summary, late, note))
    rest = json.dumps([_plain(summary), late, note], separators=(",", ":"))
    return "\n".join((repr(seconds), str(number), *cells)).encode("utf-8", "surrogatepass"), rest.encode()


def start_key(name: str, started: str) -> tuple[float, int, str]:
    """By the recorded start. Records before version 1.4 have whole seconds: then the number in the name decides."""
    try:
        seconds = datetime.fromisoformat(started).timestamp()
    except (ValueError, OverflowError):
        seconds = 0.0
    number = _NUMBER.search(name)
    return seconds, int(number[1]) if number else 1, name


def short_decimal(text: str) -> str:
    """An exact float as a short decimal; any other text as it is."""
    try:
        return f"{float.fromhex(text):.6g}"
    except (ValueError, OverflowError):
        return text


def metrics_text(values: Mapping[str, str]) -> str:
    """The first metrics in one row; `…` stands for what is left out."""
    shown = [f"{name} {short_decimal(text)}" for name, text in values.items()]
    return _cut(", ".join(shown[:_MAX_METRICS]) + (", …" if len(shown) > _MAX_METRICS else ""), _MAX_METRICS_TEXT)


def _note(folder: RunDir, summary: RecordSummary) -> str:
    """Which run this one verifies, with the verdict, or resumes; empty for any other run."""
    try:
        found = read_verification(folder.verification) if folder.verification.exists() else None
    except (RecordError, OSError) as error:
        return str(error)
    if found is not None:
        return f"verifies {found.verified}: {found.verdict}"
    # A verification that was interrupted has no verdict.
    if summary.verifies:
        return f"verifies {summary.verifies}"
    return f"resumes {summary.resumes}" if summary.resumes else ""


def _cells(name: str, summary: RecordSummary, late: tuple[str, ...], note: str) -> list[str]:
    return [
        name,
        summary.outcome.state + (", late record" if late else ""),
        "" if summary.seconds is None else f"{summary.seconds:.1f}",
        str(summary.seed),
        summary.recipe.short,
        "" if summary.result is None else summary.result.short,
        _cut(summary.script.rpartition("/")[2], _MAX_ARGUMENTS),
        _cut(shlex.join(summary.arguments), _MAX_ARGUMENTS),
        metrics_text(summary.metrics),
        note,
    ]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _plain(one: RecordSummary) -> list[Any]:
    """Its values in the order of the fields, without their names."""
    values = {name: getattr(one, name) for name in RecordSummary.__slots__}
    values |= {"recipe": one.recipe.hex, "result": None if one.result is None else one.result.hex}
    values |= {"outcome": one.outcome.to_dict() | {"traceback": None}, "metrics": dict(one.metrics)}
    values["host"] = None if one.host is None else one.host.to_dict()
    return list(values.values())


def _summary(plain: list[Any]) -> RecordSummary:
    """Of what `_plain` made. It is not checked as a record is, as there may be thousands."""
    values = dict(zip(RecordSummary.__slots__, plain, strict=True))
    result, host = values["result"], values["host"]
    values["recipe"] = Digest(values["recipe"])
    values["result"] = None if result is None else Digest(result)
    values["outcome"] = Outcome(**values["outcome"])
    values["arguments"] = tuple(values["arguments"])
    values["host"] = None if host is None else _host(**host)
    return RecordSummary(**values)


def _host(machine: str | None, launcher: dict[str, Any], training: dict[str, Any] | None) -> Host:
    started = None if training is None else RunProcess(**training)
    return Host(machine=machine, launcher=RunProcess(**launcher), training=started)
