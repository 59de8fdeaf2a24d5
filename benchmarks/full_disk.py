"""Train a tiny script on disks of many sizes, most too small: `make bench-full-disk` (root; about half an hour).

At every size one of two things must hold. The run is finished, whole, and has the result of a run with room. Or the
command ends with a line that says what could not be written, and no record reads *finished*.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from samebits.core.errors import SamebitsError
from samebits.core.record import FINISHED
from samebits.core.run_dir import RunDir
from samebits.host.audit.folder_audit import audit_folder

COMMAND = str(Path(sys.executable).with_name("samebits"))
SCRIPT = """
import os
import keras
import numpy as np
model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(2048), keras.layers.Dense(2)])
model.compile("adam", "mse")
x = np.arange(512, dtype="float32").reshape(8, 64) / 512
model.fit(x, x[:, :2], epochs=3, batch_size=4, verbose=2)
with open(os.path.join(os.environ["SAMEBITS_OUTPUT"], "end.bin"), "wb") as file:
    file.write(bytes(1 << 20))
"""
STEP = 192 << 10


def main() -> None:
    """Try sizes until there is room five times, and print the counts as a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, default=60)
    parser.add_argument("--counts", type=Path, default=Path("bench-full-disk.json"))
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="samebits-full-") as folder:
        script = Path(folder) / "train.py"
        script.write_text(SCRIPT)
        wanted = result_of(train(script, Path(folder) / "runs"), Path(folder) / "runs")
        # Every other size first, so that a bench that is cut short has seen the whole range.
        order = sorted(range(options.sizes), key=lambda number: (number % 4, number))
        for number in order:
            counts[at_size(script, Path(folder) / "small", (number + 1) * STEP, wanted)] += 1
            options.counts.write_text(json.dumps(counts, indent=1))
    print("| | |\n|---|---|")
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
        return f"refused or failed with status {done.returncode}"
    finally:
        subprocess.run(["umount", str(runs)], check=True)


if __name__ == "__main__":
    main()
