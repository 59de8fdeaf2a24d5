"""Many trainings at once in one folder of runs, and two resumes at once of one run: `make bench-together`.

All must finish, each in a folder of its own, with the same result. The run that two commands resume is killed first.
"""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from kills import LOOP, Bench, isolate, warm_trainings

from samebits.core.record import FINISHED
from samebits.core.run_dir import RunDir
from samebits.host.audit.folder_audit import audit_folder

TRAININGS = 20


def main() -> None:
    """Print what came out, and fail where it must not be."""
    isolate()
    with tempfile.TemporaryDirectory(prefix="samebits-together-") as folder, warm_trainings():
        bench = Bench(Path(folder), random.Random(), Counter())
        (bench.folder / "loop").mkdir()
        (bench.folder / "loop" / "train.py").write_text(LOOP)
        for _ in range(2):
            together(bench, [bench.train("loop")])
        shutil.rmtree(bench.runs)
        print(f"{TRAININGS} trainings at once: {together(bench, [bench.train('loop')] * TRAININGS)}", flush=True)
        shutil.rmtree(bench.runs)
        killed = killed_run(bench)
        print(f"two resumes at once: {together(bench, [bench.command('resume', killed.path.name)] * 2)}", flush=True)


def together(bench: Bench, commands: list[list[str]]) -> str:
    """Start all, wait for their ends, and describe them."""
    before = set(bench.runs.glob("2*/"))
    begun = time.monotonic()
    started = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for command in commands
    ]
    errors = [process.communicate(timeout=1800)[1] for process in started]
    runs = [RunDir(path) for path in sorted(set(bench.runs.glob("2*/")) - before)]
    results = Counter(str(run.read().result_digest) for run in runs)
    states = Counter(run.read().outcome.state for run in runs)
    whole = sum(audit_folder(run).intact for run in runs)
    statuses = Counter(process.returncode for process in started)
    if (len(results), states[FINISHED], whole, statuses[0]) != (1, len(commands), len(commands), len(commands)):
        print(*errors, sep="\n")
        raise SystemExit(f"{states}, {results}, {whole} whole, {statuses}")
    return f"{len(runs)} finished and whole with one result, {time.monotonic() - begun:.0f} s"


def killed_run(bench: Bench) -> RunDir:
    """A run whose launcher and training were killed after its second line."""
    with subprocess.Popen(bench.train("loop"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (lines := [path.read_bytes() for path in bench.runs.glob("2*/ledger.jsonl")]) or not lines[0]:
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
    (path,) = bench.runs.glob("2*/")
    run = RunDir(path)
    while run.read().outcome.state == "running":
        time.sleep(0.1)
    return run


if __name__ == "__main__":
    main()
