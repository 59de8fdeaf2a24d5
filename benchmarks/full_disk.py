"""Train a tiny script on disks of many sizes, most too small: `make bench-full-disk` (root; about ten minutes).

At every size one of two things must hold. The run is finished, whole, and has the result of a run with room. Or the
command ends with a line that says what could not be written, and no record reads *finished*.

The sizes follow from what a run with room takes: from a part of that to more than that, so that the disk is full while
the run's folder is made, and while ledger, checkpoints, models, outputs and record are written.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from kills import warm_trainings

from samebits.core.errors import SamebitsError
from samebits.core.record import FINISHED
from samebits.core.run_dir import RunDir
from samebits.host.audit.folder_audit import audit_folder
from samebits.host.launch.run_limits import disk_use

COMMAND = str(Path(sys.executable).with_name("samebits"))
SCRIPT = """
import os
import keras
import numpy as np
model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(2048), keras.layers.Dense(2)])
model.compile("adam", "mse")
x = np.arange(512, dtype="float32").reshape(8, 64) / 512
model.fit(x, x[:, :2], epochs=3, batch_size=4, verbose=2)
print("x" * (1 << 18))
with open(os.path.join(os.environ["SAMEBITS_OUTPUT"], "end.bin"), "wb") as file:
    file.write(bytes(1 << 20))
"""
_SMALLEST, _LARGEST = 0.02, 1.25  # parts of what a run with room takes
_PART = re.compile(r"cannot write \S*?/runs-small/(?:2[^/\s;]+)?/?([\w.-]*)|(No space left|Errno 28|Disk quota)")


def main() -> None:
    """Try sizes, and print the counts as a table in Markdown."""
    # Its mounts are in a namespace of its own: none is left, however it ends.
    if "SAMEBITS_BENCH_MOUNTS" not in os.environ:
        os.environ["SAMEBITS_BENCH_MOUNTS"] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, default=60)
    parser.add_argument("--counts", type=Path, default=Path("bench-full-disk.json"))
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="samebits-full-") as folder, warm_trainings():
        script, roomy, small = Path(folder) / "train.py", Path(folder) / "runs", Path(folder) / "runs-small"
        script.write_text(SCRIPT)
        wanted = result_of(train(script, roomy), roomy)
        needed = disk_use(roomy)
        shutil.rmtree(roomy)
        # Every fourth size first, so that a bench that is cut short has seen the whole range.
        for number in sorted(range(options.sizes), key=lambda number: (number % 4, number)):
            part = _SMALLEST + (_LARGEST - _SMALLEST) * number / (options.sizes - 1)
            counts[at_size(script, small, int(needed * part) >> 12 << 12, wanted)] += 1
            options.counts.write_text(json.dumps(counts, indent=1))
    print(f"a run with room: {needed / 2**20:.1f} MiB\n\n| | |\n|---|---|")
    for name, count in sorted(counts.items()):
        print(f"| {name} | {count} |")


def train(script: Path, runs: Path) -> "subprocess.CompletedProcess[str]":
    """One training, whatever its end."""
    command = [COMMAND, "train", str(script), "--runtime", "venv", "--keep", "all", "--runs", str(runs)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def result_of(done: "subprocess.CompletedProcess[str]", runs: Path) -> str:
    """The digest of the result of the only run; empty where there is none that is finished and whole."""
    for path in runs.glob("2*/"):
        run = RunDir(path)
        try:
            record = run.read()
        except SamebitsError:
            continue
        if record.outcome.state == FINISHED:
            whole = done.returncode == 0 and audit_folder(run).intact
            return str(record.result_digest) if whole else "finished and not whole"
    return ""


def at_size(script: Path, runs: Path, size: int, wanted: str) -> str:
    """Train on a disk of a size; returns how that ended, in capitals where it must not."""
    runs.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(runs)], check=True)
    try:
        done = train(script, runs)
        found = result_of(done, runs)
        if found:
            return "finished with the same result" if found == wanted else f"WRONG: {found}"
        if done.returncode == 0 or "defect of samebits" in done.stderr:
            print(f"{size}: {done.returncode}\n{done.stderr}", file=sys.stderr)
            return "NO RUN, AND NO LINE"
        return f"status {done.returncode}, {state_of(runs)}; full at {full_at(done.stderr)}"
    finally:
        subprocess.run(["umount", str(runs)], check=True)


def state_of(runs: Path) -> str:
    """What the only run reads, where there is one."""
    for path in runs.glob("2*/record.json"):
        try:
            return RunDir(path.parent).read().outcome.state
        except SamebitsError:
            return "UNREADABLE"
    return "no run"


def full_at(lines: str) -> str:
    """Which part of the run did not fit, by the first line that says so."""
    for line in lines.splitlines():
        if found := _PART.search(line):
            return found[1] or "another file"
    print(lines, file=sys.stderr)
    return "ANOTHER END"


if __name__ == "__main__":
    main()
