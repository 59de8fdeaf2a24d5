"""The page of a run: its size, the time to make it, and to open it in Chromium where that is (seconds)."""

import shutil
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from figures import Figure
from measuring import ROOT, Options, samebits, scratch
from verify import LINES, made  # beside this file, in no package

from samebits.core.record import read_record
from samebits.core.run_dir import RunDir
from samebits.host.report.run_page import run_page

sys.path.insert(0, str(ROOT / "tests"))
from support.browser import Browser

BYTES, SECONDS_TO_MAKE, SECONDS_TO_OPEN = {"example": 400_000, "long": 5_000_000}, {"long": 3.0}, {"example": 0.3}


def measure(options: Options) -> Iterator[Figure]:
    """The example's run, and one of many lines."""
    rounds, lines = options.rounds_or(5), LINES // 100 if options.small else LINES
    with scratch() as folder:
        shutil.copytree(ROOT / "examples" / "digits", folder / "digits")
        samebits("train", "digits/train.py", "--data", "digits/data", "--runtime", "venv", folder=folder)
        (trained,) = (folder / "runs").glob("2*")
        long = made(folder / "long", read_record(ROOT / "tests" / "data" / "record-1.0.json"), lines)
        runs = {"example": ("`examples/digits`", RunDir(trained)), "long": (f"{lines:,} ledger lines", long)}
        for name, (row, run) in runs.items():
            cell = partial(Figure, table="run", row=row)
            size = float(len(run_page(run)))
            yield cell(column="size", unit="bytes", values=(size,), most=BYTES[name])
            times = tuple(seconds_to_make(run) for _ in range(rounds))
            yield cell(column="processor time to make it", unit="s", values=times, most=SECONDS_TO_MAKE.get(name))
            if shutil.which("chromium"):
                page = folder / "page.html"
                page.write_bytes(run_page(run))
                browser = Browser(program="chromium", folder=folder, axe=Path())
                opened = tuple(browser.seconds_to_open(page) for _ in range(rounds))
                yield cell(column="opens in", unit="s", values=opened, most=SECONDS_TO_OPEN.get(name))


def seconds_to_make(run: RunDir) -> float:
    """Processor time."""
    started = time.process_time()
    run_page(run)
    return time.process_time() - started
