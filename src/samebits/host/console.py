"""Everything that commands print: messages and progress on stderr, results on stdout.

What is printed comes from records, ledgers, paths and errors, which someone else may have written. So this is the only
place that prints, and whatever a terminal would obey, or show in another order, is escaped here.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from samebits.core.file_tree import Progress
from samebits.core.printable import printable

_QUIET_SECONDS = 2.0  # before a progress bar appears
_REPORT_SECONDS = 10.0  # between two messages of a task whose end is unknown
_BAR_WIDTH = 40  # characters of the longest bar
_LINE_WIDTH = 120
_quiet = False


def print_line(text: str, *, flush: bool = False) -> None:
    """Print one line on stdout."""
    print(printable(text), flush=flush)


def print_text(text: str) -> None:
    """Print lines of our own on stdout, with nothing of a record or a path in them."""
    print(text)


def print_json(value: object, *, indent: int | None = 1) -> None:
    """Print JSON with sorted keys; what a terminal would obey is escaped as JSON has it."""
    # Any encoding can show ASCII. UTF-8 has no halves of characters, which JSON has as escapes only.
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print_json_text(json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=plain))


def print_json_text(text: str) -> None:
    """Print what is JSON already."""
    if not text.replace("\n", "").isprintable():
        text = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    print(text, flush=True)


def log(line: str) -> None:
    """Print one message of samebits on stderr, so that stdout holds the script's output and results only."""
    print(f"samebits: {printable(line)}", file=sys.stderr, flush=True)


def confirm(question: str) -> bool:
    """Ask on stderr; False for any answer but yes, and where nobody can answer."""
    if not sys.stdin or not sys.stdin.isatty():
        return False
    print(f"samebits: {printable(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def set_quiet() -> None:
    """Print no progress from now on; what went wrong, or needs attention, is still printed."""
    global _quiet  # noqa: PLW0603  one setting of one process, as the terminal is
    _quiet = True


def log_progress(line: str) -> None:
    """Print one message about work that is under way; nothing with `--quiet`."""
    if not _quiet:
        log(line)


def log_defect(error: BaseException) -> None:
    """Print the traceback of an error that is our own."""
    import traceback

    for line in "".join(traceback.format_exception(error)).splitlines():
        print(printable(line), file=sys.stderr)
    log("a defect of samebits itself; please report it")


@contextmanager
def elapsed_progress(what: str) -> Iterator[None]:
    """Log a task when it starts, then its elapsed time every ten seconds, and its duration if it took longer."""
    log_progress(what)
    started = time.monotonic()
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(_REPORT_SECONDS):
            log_progress(f"{what}: {time.monotonic() - started:.0f} s so far")

    # A thread, because the task itself blocks in a subprocess or in the engine.
    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    seconds = time.monotonic() - started
    if seconds > _REPORT_SECONDS:
        log_progress(f"{what}: done in {seconds:.0f} s")


@contextmanager
def hashing_progress(what: str) -> Iterator[Progress]:
    """A progress callback that shows a bar once hashing takes more than two seconds."""
    bar = _LateBar(what)
    try:
        yield bar
    finally:
        bar.close()


class _LateBar:
    """A bar that appears late: short work neither draws it nor imports rich."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = time.monotonic()
        self._progress: Any = None

    def __call__(self, done: int, total: int) -> None:
        if _quiet or time.monotonic() - self._started < _QUIET_SECONDS:
            return
        # rich takes longer to import than most data takes to hash.
        if self._progress is None:
            self._open(total)
        self._progress.update(self._task, completed=done, total=total)

    def _open(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        # On stderr: stdout may be read by another program.
        console = Console(stderr=True)
        columns = (TextColumn(self._what), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task(self._what, total=total)
        self._progress.start()

    def close(self) -> None:
        """Leave the finished bar on the screen."""
        if self._progress is not None:
            self._progress.stop()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print aligned columns on stdout."""
    # Not by rich, which takes seconds for a thousand rows. Nor a call for each cell: of runs there may be 100,000.
    table = [tuple(row) for row in (columns, *rows)]
    table = [row if "".join(row).isprintable() else tuple(map(printable, row)) for row in table]
    aligned = "  ".join(f"%-{max(map(len, column))}s" for column in zip(*table, strict=True))
    print("\n".join([(aligned % row).rstrip() for row in table]))


def print_bars(columns: list[str], rows: list[list[str]], values: list[float]) -> None:
    """Print a table on stdout; its last column shows each value as a number and a bar, scaled to the largest."""
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="")
    # Names and bars are aligned left, numbers right.
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number in {0, len(columns) - 1} else "right", no_wrap=True)
    for row, value in zip(rows, values, strict=True):
        bar = Table.grid(padding=(0, 1))
        bar.add_row(f"{value:.2f}", Bar(max(values), 0, value, width=_BAR_WIDTH, color="default"))
        table.add_row(*(Text(printable(cell)) for cell in row), bar)
    Console(highlight=False, width=_LINE_WIDTH).print(table)


def silence_stdout() -> None:
    """Discard all further output, once the reader of stdout went away."""
    # Replacing the descriptor also silences what is still buffered, which Python flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
