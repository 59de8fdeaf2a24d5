"""Count where state is restored and where the run is refused, by holder and kind of value: `make bench-states`.

A case is a small training that is killed after an epoch and resumed (`tests/support/state_cases.py`).
"""

import argparse
import json
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

_BATCH = 32
"""How many cases are trained before their ends are kept in the file of `--into`."""


def main() -> None:
    """Run all cases, or some, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", action="store_true", help="only the cases of the usual tests")
    parser.add_argument("--lock", type=Path, help="the lock of another TensorFlow")
    parser.add_argument("--every", type=int, default=1, help="only one case of so many")
    parser.add_argument("--into", type=Path, help="a file that keeps how cases ended; those in it are not run again")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many cases at the start of the order")
    parser.add_argument("--at-most", type=int, help="run no more cases than these")
    options = parser.parse_args()
    cases = (spread(every_case()) if options.sample else every_case())[:: options.every]
    ended, started = _read(options.into), time.monotonic()
    left = [case for case in _pairs_first(cases)[options.skip :] if case not in ended][: options.at_most]
    for first in range(0, len(left), _BATCH):
        found = _judge(left[first : first + _BATCH], options.lock)
        _append(options.into, found)
        ended |= found
    verdicts = Counter(found.verdict for found in ended.values())
    print(f"{len(left)} cases in {time.monotonic() - started:.0f} s; of all {len(ended)}: {dict(verdicts)}\n")
    print(table(ended, "holder", HOLDERS, "kind", KINDS))
    print(table(ended, "place", PLACES, "mode", MODES))


def _pairs_first(cases: Sequence[Case]) -> list[Case]:
    """The cases in an order in which each part of the list has all pairs of values that it can have."""
    left, ordered = list(cases), list[Case]()
    while left:
        chosen = set(spread(left))
        ordered += sorted(chosen)
        left = [case for case in left if case not in chosen]
    return ordered


def _judge(cases: Sequence[Case], lock: Path | None) -> dict[Case, Ended]:
    folder = Path(tempfile.mkdtemp(prefix="samebits-states-"))
    try:
        return Cases(folder, cases, lock=lock).judge()
    finally:
        shutil.rmtree(folder)


def _read(into: Path | None) -> dict[Case, Ended]:
    lines = into.read_text().splitlines() if into and into.exists() else []
    return {Case(**found["case"]): Ended(**found["ended"]) for found in map(json.loads, lines)}


def _append(into: Path | None, ended: Mapping[Case, Ended]) -> None:
    if into:
        with into.open("a") as file:
            for case, found in ended.items():
                file.write(json.dumps({"case": asdict(case), "ended": asdict(found)}) + "\n")


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
