"""Count where state is restored and where the run is refused, by holder and kind of value: `make bench-states`.

A case is a small training that is killed after an epoch and resumed (`tests/support/state_cases.py`).
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.state_cases import HOLDERS, KINDS, MODES, PLACES, Case, every_case, spread
from support.state_runs import REFUSED, SAME, Cases, Ended


def main() -> None:
    """Run all cases, or the sample of the tests, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", action="store_true", help="only the cases of the usual tests")
    cases = spread(every_case()) if parser.parse_args().sample else every_case()
    folder, started = Path(tempfile.mkdtemp(prefix="samebits-states-")), time.monotonic()
    try:
        ended = Cases(folder, cases).judge()
    finally:
        shutil.rmtree(folder)
    verdicts = Counter(found.verdict for found in ended.values())
    print(f"{len(cases)} cases in {time.monotonic() - started:.0f} s: {dict(verdicts)}\n")
    print(table(ended))
    print(places(ended))


def table(ended: Mapping[Case, Ended]) -> str:
    """Holder by kind: the same bits, and of how many cases."""
    lines = [_row("same bits, of cases", HOLDERS), _row("---", ["---"] * len(HOLDERS))]
    for kind in KINDS:
        found = [_share(ended, holder=holder, kind=kind) for holder in HOLDERS]
        lines.append(_row(kind, found))
    return "\n".join(lines) + "\n"


def places(ended: Mapping[Case, Ended]) -> str:
    """Place and mode: the same bits, and of how many cases."""
    lines = [_row("same bits, of cases", PLACES), _row("---", ["---"] * len(PLACES))]
    for mode in MODES:
        found = [_share(ended, place=place, mode=mode) for place in PLACES]
        lines.append(_row(mode, found))
    return "\n".join(lines) + "\n"


def _share(ended: Mapping[Case, Ended], **parts: str) -> str:
    chosen = [found for case, found in ended.items() if parts.items() <= asdict(case).items()]
    verdicts = Counter(found.verdict for found in chosen)
    other = len(chosen) - verdicts[SAME] - verdicts[REFUSED]
    return f"{verdicts[SAME]}/{len(chosen)}" + (f", {other} wrong" if other else "")


def _row(name: str, cells: Iterable[str]) -> str:
    return "| " + " | ".join([name, *cells]) + " |"


if __name__ == "__main__":
    main()
