"""What `--on slurm` adds to a run: from the command's start until the run's folder is there, against a local run.

    sudo .venv/bin/python benchmarks/submission.py --rounds 5

Starts a Slurm of three nodes on this machine (`tools/slurm.sh`). Local runs and jobs are started in turns, with the
virtual environment. Each is ended once its run has begun: what comes after is the same for both. Slurm makes a job's
log when it starts the job, so the time that Slurm takes is known separately.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "samebits"]
POLL_SECONDS = 0.005
LIMIT_SECONDS = 60.0


def main() -> None:
    """Print the medians, and what each round took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="samebits-submission-") as name:
        # Beside the cluster's own files, which are no code.
        folder = Path(name) / "project"
        folder.mkdir()
        (folder / "train.py").write_text("import time\ntime.sleep(600)\n")
        tool, state = str(ROOT / "tools" / "slurm.sh"), f"{name}/slurm"
        subprocess.run([tool, "up", state], check=True)
        os.environ["SLURM_CONF"] = f"{state}/slurm.conf"
        try:
            # The first of each makes what is cached.
            rounds = [(_local(folder), _submitted(folder)) for _ in range(options.rounds + 1)][1:]
        finally:
            subprocess.run([tool, "down", state], check=True)
    here, there = [one for one, _ in rounds], [two["begun"] for _, two in rounds]
    added = [two - one for one, two in zip(here, there, strict=True)]
    slurms = [two["started"] - two["submitted"] for _, two in rounds]
    print(json.dumps({"load": os.getloadavg()[0], "rounds": rounds}))
    ours = [whole - part for whole, part in zip(added, slurms, strict=True)]
    rows = {"begun here": here, "begun as a job": there, "added": added, "of that Slurm": slurms, "samebits": ours}
    for what, values in rows.items():
        print(f"{what}: {statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})")


def _local(folder: Path) -> float:
    runs, started = folder / "local", time.monotonic()
    process = _start(folder, runs)
    begun = _wait(lambda: list(runs.glob("2*/record.json"))) - started
    process.terminate()
    process.wait()
    _empty(runs)
    return begun


def _submitted(folder: Path) -> dict[str, float]:
    """Seconds until the job has a number, until Slurm starts it, and until the run has begun."""
    runs, started = folder / "jobs", time.monotonic()
    process = _start(folder, runs, "--on", "slurm")
    found = {
        "submitted": _wait(lambda: [path for path in runs.glob("jobs/*/job.json") if '"job": "' in path.read_text()]),
        "started": _wait(lambda: list(runs.glob("jobs/*/log.txt"))),
        "begun": _wait(lambda: list(runs.glob("2*/record.json"))),
    }
    (job,) = runs.glob("jobs/*")
    subprocess.run([*COMMAND, "cancel", job.name, "--runs", runs], cwd=folder, check=True, capture_output=True)
    process.wait()
    _wait(lambda: not subprocess.run(["squeue", "--noheader"], check=True, capture_output=True).stdout)
    _empty(runs)
    return {name: at - started for name, at in found.items()}


def _start(folder: Path, runs: Path, *more: str) -> subprocess.Popen[bytes]:
    words = [*COMMAND, "train", "train.py", "--runtime", "venv", "--runs", str(runs), *more]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _wait(found: Callable[[], object]) -> float:
    """When something was found."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not found():
        if time.monotonic() > deadline:
            raise TimeoutError("nothing happened in a minute")
        time.sleep(POLL_SECONDS)
    return time.monotonic()


def _empty(runs: Path) -> None:
    subprocess.run(["rm", "-rf", runs], check=True)


if __name__ == "__main__":
    main()
