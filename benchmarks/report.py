"""Measure the page of a run: `python benchmarks/report.py [RUN]` (seconds). Without RUN, only the made one is measured.

Where Chromium and axe-core are, see `make test-pages`, it also measures how long a page takes to open.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from verify import LINES, ROOT, made  # beside this file, in no package

from samebits.core.record import read_record
from samebits.core.run_dir import RunDir
from samebits.host.report.run_page import run_page

sys.path.insert(0, str(ROOT / "tests"))
from support.browser import Browser

ROUNDS = 5


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, help="the folder of a run, such as that of `make train`")
    given = parser.parse_args().run
    print("| run | bytes | processor time to make it | opens in |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        record = read_record(ROOT / "tests" / "data" / "record-1.0.json")
        runs = {} if given is None else {given.name: RunDir(given)}
        runs[f"{LINES:,} ledger lines"] = made(Path(folder) / "run", record, LINES)
        for name, run in runs.items():
            print(f"| {name} | {measured(run, Path(folder))} |")


def measured(run: RunDir, folder: Path) -> str:
    """Size, processor time to make it, and time to open it; the least of some rounds: other programs only add."""
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        page = run_page(run)
        times.append(time.process_time() - started)
    (folder / "page.html").write_bytes(page)
    return f"{len(page):,} | {min(times):.2f} s | {opened(folder / 'page.html', folder)}"


def opened(page: Path, folder: Path) -> str:
    """The least time to open a page in Chromium."""
    program = shutil.which("chromium")
    if program is None:
        return "not measured"
    browser = Browser(program=program, folder=folder, axe=Path())
    return f"{min(browser.seconds_to_open(page) for _ in range(ROUNDS)):.2f} s"


if __name__ == "__main__":
    main()
