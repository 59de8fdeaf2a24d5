"""Count where state is restored and where the run is refused, by holder and kind of value: `make bench-states`.

A case is a small training that is killed after an epoch and resumed (`tests/support/state_cases.py`).
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.state_cases import HOLDERS, KINDS, MODES, PLACES, Case, every_case, spread
from support.state_runs import REFUSED, SAME, Cases, Ended


def main() -> None:
    """Run all cases, or the sample of the tests, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", action="store_true", help="only the cases of the usual tests")
    parser.add_argument("--lock", type=Path, help="the lock of another TensorFlow")
    parser.add_argument("--every", type=int, default=1, help="only one case of so many")
    options = parser.parse_args()
    cases = (spread(every_case()) if options.sample else every_case())[:: options.every]
    folder, started = Path(tempfile.mkdtemp(prefix="samebits-states-")), time.monotonic()
    try:
        ended = Cases(folder, cases, lock=options.lock).judge()
    finally:
        shutil.rmtree(folder)
    verdicts = Counter(found.verdict for found in ended.values())
    print(f"{len(cases)} cases in {time.monotonic() - started:.0f} s: {dict(verdicts)}\n")
    print(table(ended, "holder", HOLDERS, "kind", KINDS))
    print(table(ended, "place", PLACES, "mode", MODES))


def table(ended: Mapping[Case, Ended], across: str, columns: Sequence[str], down: str, rows: Iterable[str]) -> str:
    """A row for each value of the part `down`, a column for each of `across`: the same bits, and of how many cases."""
    head = [_row("same bits, of cases", columns), _row("---", ["---"] * len(columns))]
    body = (_row(row, [_share(ended, **{across: column, down: row}) for column in columns]) for row in rows)
    return "\n".join([*head, *body]) + "\n"


def _share(ended: Mapping[Case, Ended], **parts: str) -> str:
    chosen = [found for case, found in ended.items() if parts.items() <= asdict(case).items()]
    verdicts = Counter(found.verdict for found in chosen)
    other = len(chosen) - verdicts[SAME] - verdicts[REFUSED]
    return f"{verdicts[SAME]}/{len(chosen)}" + (f", {other} wrong" if other else "")


def _row(name: str, cells: Iterable[str]) -> str:
    return "| " + " | ".join([name, *cells]) + " |"


if __name__ == "__main__":
    main()
