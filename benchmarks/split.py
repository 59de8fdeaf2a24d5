"""What it costs that the launcher keeps record and ledger of a container (about 3 minutes).

The work that the split adds is timed within the launcher: before the container starts, and after its last process is
gone. While the script runs, the launcher's own processor time counts: it takes over the lines of the ledger.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from figures import Figure
from measuring import Options, require_engine, scratch

from samebits.core.run_config import RunConfig
from samebits.core.trace_level import STEP, Trace
from samebits.host.launch import train
from samebits.host.launch.kept_run import KeptRun

SCRIPT = """
import keras
import numpy as np
model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(512), keras.layers.Dense(10)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
rng = np.random.default_rng(0)
x, y = rng.normal(size=(4096, 64)).astype("float32"), rng.integers(0, 10, 4096)
model.fit(x, y, epochs=20, batch_size=32, verbose=0)
"""


BEFORE, AFTER, BOTH = "before the container starts", "after its last process has ended", "both"
PROCESSOR = "processor time of the launcher, of the script's seconds"
GOALS = {BOTH: 0.2, PROCESSOR: 1.0}


def measure(options: Options) -> Iterator[Figure]:
    """Rounds of one training; the first is not counted, and builds the image where it must."""
    require_engine()
    with scratch() as folder:
        (folder / "train.py").write_text(SCRIPT)
        rows = [trained(folder) for _ in range(options.rounds_or(5) + 1)][1:]
    for what in rows[0]:
        unit = "%" if what == PROCESSOR else "s"
        values = tuple(row[what] for row in rows)
        yield Figure(table="a run", row=what, column="", unit=unit, values=values, most=GOALS.get(what))


def trained(folder: Path) -> dict[str, float]:
    """One training with a line for each of its 2,560 steps."""
    spent = {"begin": 0.0, "conclude": 0.0}
    used = dict.fromkeys(spent, 0.0)
    spec = RunConfig(script=folder / "train.py", runs=folder / "runs", runtime="docker", trace=Trace(level=STEP))
    with ExitStack() as stack:
        for name in spent:
            method = timed(getattr(KeptRun, name), name, spent, time.perf_counter)
            stack.enter_context(patch.object(KeptRun, name, timed(method, name, used, time.thread_time)))
        busy = time.process_time()
        run, status = train.train(spec)
        busy = time.process_time() - busy
    if status:
        raise SystemExit(f"{run.path} ended with {status}")
    script = run.read().timings.script or 0.0
    return {
        BEFORE: spent["begin"],
        AFTER: spent["conclude"],
        BOTH: sum(spent.values()),
        "processor time of both": sum(used.values()),
        PROCESSOR: 100 * busy / script,
    }


def timed(
    function: Callable[..., Any], name: str, spent: dict[str, float], clock: Callable[[], float]
) -> Callable[..., Any]:
    """The function, whose seconds by a clock are added up."""

    def method(*words: Any, **options: Any) -> Any:
        started = clock()
        try:
            return function(*words, **options)
        finally:
            spent[name] += clock() - started

    return method
