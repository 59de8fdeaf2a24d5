"""What it costs that the launcher keeps record and ledger of a container: `make bench-split` (about 3 minutes).

The work that the split adds is timed within the launcher: before the container starts, and after its last process is
gone. While the script runs, the launcher's own processor time counts: it takes over the lines of the ledger.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

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


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="samebits:cpu")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="samebits-split-") as name:
        (Path(name) / "train.py").write_text(SCRIPT)
        rows = [measure(Path(name), options.image) for _ in range(options.rounds + 1)][1:]
    print("| | median | least | most |\n|---|---|---|---|")
    for what in rows[0]:
        values = [row[what] for row in rows]
        print(f"| {what} | {statistics.median(values):.3f} | {min(values):.3f} | {max(values):.3f} |")


def measure(folder: Path, image: str) -> dict[str, float]:
    """One training with a line for each of its 2,560 steps."""
    spent = {"begin": 0.0, "conclude": 0.0}
    used = dict.fromkeys(spent, 0.0)
    spec = RunConfig(
        script=folder / "train.py", runs=folder / "runs", image=image, runtime="docker", trace=Trace(level=STEP)
    )
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
        "seconds a run: before the container": spent["begin"],
        "seconds a run: after it": spent["conclude"],
        "seconds of processor time a run: both": sum(used.values()),
        "processor time of the launcher, in % of the script's seconds": 100 * busy / script,
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


if __name__ == "__main__":
    main()
