"""Let the clock of launchers jump while they train, resume, verify and list: `make bench-clock` (about 10 minutes).

libfaketime, from Debian's package of that name, takes the place of the system's clock. It reads the time to show from a
file, which changes at random moments, forwards and backwards, by up to ten years. Half of the trainings kill
themselves.
With `--everywhere`, the clock jumps for the training's process, too: in a namespace of its own, every process loads a
small library (`jumping_clock.c`), as no variable reaches a training.
Each run must end with the result of the one whose clock did not jump, and every file of it must be as recorded.
"""

import argparse
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

from samebits.core.record import FINISHED, read_record
from samebits.host.runs.registry import run_dirs

COMMAND = str(Path(sys.executable).with_name("samebits"))
LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
SCRIPT = """
import os
import keras
import numpy as np

class Dies(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        mark = os.environ["SAMEBITS_OUTPUT"] + "/epoch"
        with open(mark, "w") as file:
            file.write(f"{epoch:04}")
        if epoch == 2 and os.path.exists(DIES):
            os.kill(os.getpid(), 9)

model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
model.compile("sgd", "mse")
x = np.arange(24, dtype="float32").reshape(8, 3) / 24
model.fit(x, x[:, :2], epochs=4, batch_size=4, verbose=0, callbacks=[Dies()])
"""
TRAIN = ("train", "train.py", "--runtime", "venv", "--keep", "all", "--exclude", "[!t]*")
_JUMPS = ("+0", "+3650d", "-3650d", "+1d", "-1d", "+3h", "-3h", "+10m", "-10m", "-2s", "+2s")
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_FOLDER = "SAMEBITS_BENCH_CLOCK"
"""Holds the folder with the clock, in the namespace where every process has it."""


def main() -> None:
    """Train for some minutes, and print what happened as a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--library", default=LIBRARY)
    parser.add_argument("--everywhere", action="store_true", help="also in the process that trains; needs gcc")
    options = parser.parse_args()
    if options.everywhere and _FOLDER not in os.environ:
        with tempfile.TemporaryDirectory(prefix="samebits-clock-") as name:
            raise SystemExit(enter_namespace(Path(name)))
    if options.everywhere:
        Bench(Path(os.environ.pop(_FOLDER)), None).run(options.minutes * 60)
        return
    with tempfile.TemporaryDirectory(prefix="samebits-clock-") as name:
        Bench(Path(name), options.library).run(options.minutes * 60)


def enter_namespace(folder: Path) -> int:
    """Run this bench again where /etc/ld.so.preload names the library of the clock; returns its exit status."""
    clock, library, etc = folder / "clock", folder / "jumping_clock.so", folder / "etc"
    clock.write_bytes(bytes(8))
    source = Path(__file__).with_name("jumping_clock.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", f'-DCLOCK="{clock}"', "-o", library, source], check=True)
    shutil.copytree("/etc", etc, symlinks=True, ignore_dangling_symlinks=True)
    (etc / "ld.so.preload").write_text(f"{library}\n")
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    inner = 'mount --bind "$0" /etc && exec "$@"'
    words = ["unshare", "--mount", *mapped, "sh", "-c", inner, str(etc), sys.executable, *sys.argv]
    return subprocess.run(words, env=os.environ | {_FOLDER: str(folder)}, check=False).returncode


class Bench:
    """A project whose launchers see another time of day from moment to moment; without a library, all processes."""

    def __init__(self, folder: Path, library: str | None) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.counts: Counter[str] = Counter()
        self.clock = folder / "clock"
        self.library = library
        self.set_clock("+0")
        (folder / "train.py").write_text(SCRIPT.replace("DIES", repr(str(folder / "dies"))))
        self.variables = (
            {}
            if library is None
            else {
                "LD_PRELOAD": library,
                "FAKETIME_TIMESTAMP_FILE": str(self.clock),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            }
        )

    def run(self, seconds: float) -> None:
        """Repeat until the time is up."""
        self.set_clock("+0")
        self.call(*TRAIN, jumps=False)
        wanted = read_record(run_dirs(self.runs)[0].record).result_digest
        ends = threading.Event()
        threading.Timer(seconds, ends.set).start()
        jumping = threading.Thread(target=self.jump, args=(ends,))
        jumping.start()
        while not ends.is_set():
            self.once(str(wanted))
        jumping.join()
        print("| | |\n|---|---|")
        for what, number in sorted(self.counts.items()):
            print(f"| {what} | {number:,} |")

    def jump(self, ends: threading.Event) -> None:
        """Set the clock to another time every now and then."""
        while not ends.wait(random.uniform(0.05, 1.5)):
            self.set_clock(random.choice(_JUMPS))
            self.counts["jumps"] += 1

    def set_clock(self, jump: str) -> None:
        """Have the clock show another time: in libfaketime's words, or as seconds in a file that is mapped."""
        if self.library is None:
            seconds = int(jump.rstrip("dhms")) * _SECONDS.get(jump[-1], 0)
            with self.clock.open("r+b") as file:
                file.write(struct.pack("q", seconds))
            return
        draft = self.clock.with_name("draft")
        draft.write_text(jump + "\n")
        draft.replace(self.clock)

    def once(self, wanted: str) -> None:
        """Train, and resume where the training was killed; then read what there is."""
        dies = self.folder / "dies"
        killed = random.random() < 0.5
        dies.touch() if killed else dies.unlink(missing_ok=True)
        before = {run.path for run in run_dirs(self.runs)}
        self.call(*TRAIN)
        made = [run for run in run_dirs(self.runs) if run.path not in before]
        dies.unlink(missing_ok=True)
        for run in made:
            if run.read().outcome.state != FINISHED:
                self.counts["killed"] += 1
                self.call("resume", run.path.name)
        self.judge({run.path for run in run_dirs(self.runs)} - before, wanted)

    def judge(self, made: set[Path], wanted: str) -> None:
        """Count what is lost or wrong."""
        ended = [run for run in run_dirs(self.runs) if run.path in made and run.read().outcome.state == FINISHED]
        self.counts["finished" if ended else "LOST"] += 1
        for run in ended:
            if str(run.read().result_digest) != wanted:
                self.counts["WRONG"] += 1
            if self.call("audit", run.path.name) != 0:
                self.counts["WRONG AUDIT"] += 1
        if self.call("list") != 0:
            self.counts["WRONG LIST"] += 1

    def call(self, *words: str, jumps: bool = True) -> int:
        """The status of a command."""
        variables = os.environ | (self.variables if jumps else {})
        command = [COMMAND, *words, "--runs", str(self.runs)]
        done = subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True, check=False)
        if "Traceback" in done.stderr or "defect of samebits" in done.stderr:
            self.counts["DEFECT"] += 1
            print(words, done.stderr, file=sys.stderr)
        elif done.returncode and words[0] != "train":
            print(words, done.returncode, done.stderr, file=sys.stderr)
        return done.returncode


if __name__ == "__main__":
    main()
