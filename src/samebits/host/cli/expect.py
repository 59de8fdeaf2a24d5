"""`--expect DIGEST`: a training in CI must reach a known result."""

import argparse
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.digest import Digest
from samebits.core.errors import EXIT_DIFFERENT, InputError, RecordError
from samebits.host.console import log

if TYPE_CHECKING:
    from samebits.core.run_dir import RunDir


def add_expect(parser: argparse.ArgumentParser) -> None:
    """Add `--expect`."""
    parser.add_argument(
        "--expect", metavar="DIGEST", help="the result that it must reach, sha256:…; status 1 for another one"
    )


def parse_expected(text: str | None) -> Digest | None:
    """The digest; raises InputError before anything is trained."""
    try:
        return None if text is None else Digest.parse(text)
    except RecordError as error:
        raise InputError(f"--expect: {error}") from error


def expected_status(run: "RunDir", expected: Digest | None, status: int) -> int:
    """The exit status of a run that ended with `status`; where another result came out, says what differs."""
    record = run.read()
    if expected is None or record.result_digest is None or record.result_digest == expected:
        return status
    log(f"the result is {record.result_digest}, not the expected {expected}")
    for line in _differences(run, expected):
        log(line)
    return status or EXIT_DIFFERENT


def _differences(run: "RunDir", expected: Digest) -> Iterator[str]:
    """What differs from a run beside it that reached the expected result, if there is one."""
    from samebits.host.compare.run_diff import diff, readable

    other = _find(run.path.absolute().parent, expected)
    if other is None:
        yield "no run here has the expected result, so there is nothing to compare with"
        return
    for item in diff(other, run):
        yield f"{item.side} {item.kind} {item.name}: {readable(item.before)} -> {readable(item.after)}"


def _find(runs: Path, expected: Digest) -> "RunDir | None":
    from samebits.host.runs.registry import read_runs

    for listed in reversed(read_runs(runs)):
        # The summary may not be true; the record's checksum decides.
        with suppress(RecordError):
            if listed.summary.finalized and listed.folder.read().result_digest == expected:
                return listed.folder
    return None
