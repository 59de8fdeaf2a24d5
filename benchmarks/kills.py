"""Kill launcher, watcher, training and `tee` of tiny runs at random moments: `make bench-kills` (an hour).

Whatever is killed and when, three things must hold. A run that reads *finished* has the result of the uninterrupted
run. Another one can be resumed to that result. No process is left over. Outcomes are counted in a file, so that several
invocations add up.

Most trainings are forked from a process that has TensorFlow imported, as in the tests; one in twenty starts for real.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from samebits.core.errors import SamebitsError
from samebits.core.record import FINISHED, RUNNING, Record, read_record
from samebits.core.run_dir import RunDir
from samebits.host.audit.checkpoint_audit import NEVER_BEGAN

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import warm_start

COMMAND = str(Path(sys.executable).with_name("samebits"))
LAUNCHER, CONTAINER = "launcher", "container"
VICTIMS = (LAUNCHER, "watcher", "training", "tee", "all")
FIT = """
import os
import keras
import numpy as np
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
model.compile("sgd", "mse", run_eagerly=True)
x = np.arange(24, dtype="float32").reshape(8, 3) / 24
model.fit(x, x[:, :2], epochs=4, batch_size=4, verbose=2)
with open(os.path.join(os.environ["SAMEBITS_OUTPUT"], "end.txt"), "w") as file:
    file.write("end")
"""
LOOP = """
import os
import numpy as np
import samebits
state = np.zeros(3)
for step in samebits.checkpoint(range(4), state):
    state[:] = state * 0.5 + step
with open(os.path.join(os.environ["SAMEBITS_OUTPUT"], "end.txt"), "w") as file:
    file.write(str(state.tolist()))
"""
SCRIPTS = {"fit": FIT, "loop": LOOP}
_RESUMES_AT_MOST = 4  # of one run; the last one is not killed
_END_SECONDS = 30.0  # that processes may outlive their launcher
_CLOSE_SECONDS = 5.0
_COLD = 0.05  # of all trainings start for real


@dataclass(frozen=True)
class Bench:
    """A project with its uninterrupted run; `real` is the cache whose trainings start cold."""

    folder: Path
    draw: random.Random
    counts: Counter[str]
    real: str | None = None
    image: str | None = None
    said: list[str] = field(default_factory=list)

    @property
    def runs(self) -> Path:
        """The folder of all its runs."""
        return self.folder / "runs"

    def command(self, *words: str) -> list[str]:
        """A command over these runs."""
        return [COMMAND, *words, "--runs", str(self.runs)]

    def train(self, script: str) -> list[str]:
        """The command that trains a script."""
        where = ("--runtime", "venv") if self.image is None else ("--image", self.image)
        return self.command("train", str(self.folder / script / "train.py"), *where, "--keep", "all")

    @property
    def victims(self) -> tuple[str, ...]:
        """Who may be killed: the processes of a container are not to be seen from here."""
        return VICTIMS if self.image is None else (LAUNCHER, CONTAINER)

    def odd(self, what: str, detail: str = "") -> None:
        """Count what must not be, and print what led to it."""
        self.counts[what] += 1
        print(f"{what}: {detail}", *self.said, sep="\n  ", file=sys.stderr, flush=True)


def main() -> None:
    """Run until the time is up, and print the counts of all invocations as a table in Markdown."""
    isolate()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--image", help="train in containers of this image, and kill launchers and containers")
    parser.add_argument("--counts", type=Path, default=Path("bench-kills.json"))
    options = parser.parse_args()
    counts = Counter(json.loads(options.counts.read_text()) if options.counts.exists() else {})
    deadline = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory(prefix="samebits-kills-") as folder, warm_trainings() as real:
        bench = Bench(Path(folder), random.Random(options.seed), counts, real, options.image)
        known = {}
        for name, text in SCRIPTS.items():
            (bench.folder / name).mkdir()
            (bench.folder / name / "train.py").write_text(text)
            known[name] = uninterrupted(bench, name)
        while time.monotonic() < deadline:
            name = bench.draw.choice(list(SCRIPTS))
            kill_once(bench, name, *known[name])
            options.counts.write_text(json.dumps(counts, indent=1, sort_keys=True))
    print_counts(counts)


def isolate() -> None:
    """Start again as the first process of a namespace: nothing that this bench kills can be anybody else's."""
    if os.getpid() != 1:
        mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
        words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *mapped, sys.executable, *sys.argv]
        os.execvp(words[0], words)


@contextmanager
def warm_trainings() -> Iterator[str | None]:
    """Let trainings start warm in the block; its value is the cache in which they start cold."""
    real, folder = os.environ.get("SAMEBITS_CACHE"), warm_start.begin()
    try:
        with pytest.MonkeyPatch.context() as patch:
            warm_start.enter(patch)
            yield real
    finally:
        warm_start.end(folder)


def uninterrupted(bench: Bench, script: str) -> tuple[str, float]:
    """The digest of the result, and how long a warm run takes."""
    shutil.rmtree(bench.runs, ignore_errors=True)
    seconds = []
    # Both caches note what was trained. The second run starts the process that others are forked from.
    for cold in (True, False, False):
        started = time.monotonic()
        subprocess.run(bench.train(script), check=True, capture_output=True, env=variables(bench, cold=cold))
        seconds.append(time.monotonic() - started)
    digests = {str(read_record(run / "record.json").result_digest) for run in bench.runs.glob("2*/")}
    if len(digests) != 1:
        raise SystemExit(f"uninterrupted runs differ: {digests}")
    return digests.pop(), seconds[-1]


def kill_once(bench: Bench, script: str, wanted: str, seconds: float) -> None:
    """Train, kill, and resume until the run has finished; every attempt but the last is killed, too."""
    shutil.rmtree(bench.runs, ignore_errors=True)
    bench.said.clear()
    command = bench.train(script)
    for attempt in range(_RESUMES_AT_MOST + 1):
        victim = bench.draw.choice(bench.victims) if attempt < _RESUMES_AT_MOST else None
        status = attempt_once(bench, command, victim, bench.draw.uniform(0, seconds))
        # A folder becomes a run when its record is written.
        newest = max((path.parent for path in bench.runs.glob("2*/record.json")), default=None)
        if newest is None:
            continue
        state = judged(bench, RunDir(newest), wanted, status)
        if state == FINISHED:
            return
        command = bench.command("resume", newest.name, "--retry-failed")
        if NEVER_BEGAN in bench.said[-2]:
            bench.counts["refused: the training had not begun"] += 1
            command = bench.train(script)
    if NEVER_BEGAN not in bench.said[-2]:
        bench.odd("NOT RESUMED")


def attempt_once(bench: Bench, command: list[str], victim: str | None, after: float) -> int:
    """Start a command, and kill one of its processes after some seconds; returns its status."""
    cold = bench.draw.random() < _COLD
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=variables(bench, cold=cold),
    ) as process:
        kill = kill_container if victim == CONTAINER else kill_later
        killed = victim is not None and kill(bench, process, victim, after)
        try:
            _, err = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            bench.odd("HANGS")
            os.killpg(process.pid, signal.SIGKILL)
            _, err = process.communicate()
    if victim is not None:
        bench.counts[f"kills of {victim}" if killed else "too late to kill"] += 1
    lines = err.decode(errors="replace").splitlines()
    bench.said.append(f"{command[1]}: {victim} killed after {after:.3f} s ({killed}): {process.returncode}, {lines}")
    # A script whose `tee` is gone may have a traceback of its own.
    if b"defect of samebits" in err:
        bench.odd("DEFECTS")
    wait_for_end(bench, process.pid)
    return process.returncode


def variables(bench: Bench, *, cold: bool) -> dict[str, str]:
    """The environment of a command whose training starts warm, or cold."""
    if not cold:
        return dict(os.environ)
    own = {} if bench.real is None else {"SAMEBITS_CACHE": bench.real}
    return {name: value for name, value in os.environ.items() if name != "SAMEBITS_CACHE"} | own


def kill_container(bench: Bench, process: "subprocess.Popen[bytes]", _: str, after: float) -> bool:
    """Wait, then have the engine kill the container of the bench's run; returns whether there was one."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(after)
    while not (found := containers(bench)) and process.poll() is None:
        time.sleep(random.uniform(0.005, 0.1))
    words = ["docker", "kill", *found]
    return bool(found) and subprocess.run(words, capture_output=True, check=False).returncode == 0


def containers(bench: Bench) -> list[str]:
    """The containers that run, and have a folder of this bench."""
    running = subprocess.run(["docker", "ps", "-q", "--no-trunc"], capture_output=True, text=True, check=True)
    form = "{{.Id}} {{range .Mounts}}{{.Source}}:{{end}}"
    words = ["docker", "inspect", "--format", form, *running.stdout.split()]
    # One that has ended meanwhile is left out.
    listed = subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()
    return [line.split()[0] for line in listed if f"{bench.folder}/" in line]


def kill_later(_: Bench, process: "subprocess.Popen[bytes]", victim: str, after: float) -> bool:
    """Wait, then send SIGKILL; returns whether there was somebody to receive it."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(after)
    # One that has not begun yet is killed at a random moment of what is left; one that has ended stays so.
    chosen = of_family(process, victim)
    while not chosen and process.poll() is None:
        time.sleep(random.uniform(0.005, 0.1))
        chosen = of_family(process, victim)
    for number in chosen:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return (bool(chosen) and process.poll() is None) or (
        victim in ("launcher", "all") and process.wait() == -signal.SIGKILL
    )


def of_family(process: "subprocess.Popen[bytes]", victim: str) -> list[int]:
    """The processes of a command that are to be killed."""
    return [number for name, number in family(process.pid) if victim in (name, "all")]


def family(launcher: int) -> Iterator[tuple[str, int]]:
    """A launcher (0: none) and its descendants by their parts; a warm training descends from a warm process."""
    parents = dict(processes())
    warm = {number for number in parents if is_warm(number)}
    servers = {number for number in warm if parents[number] not in warm}
    for number in parents:
        line = [number]
        while line[-1] in parents and line[-1] != launcher and line[-1] not in servers:
            line.append(parents[line[-1]])
        if line[-1] in parents and number not in servers:
            yield part_of(number, len(line) - 1), number


def is_warm(number: int) -> bool:
    """Whether a process is the one that warm trainings are forked from, or such a training."""
    with suppress(OSError):
        words = Path(f"/proc/{number}/cmdline").read_bytes()
        return b"/server.py" in words and os.environ[warm_start.FOLDER].encode() in words
    return False


def part_of(number: int, depth: int) -> str:
    """What a process is, by its name and by how many stand between it and the launcher."""
    with suppress(OSError):
        if Path(f"/proc/{number}/comm").read_text().strip() == "tee":
            return "tee"
    return {0: "launcher", 1: "watcher"}.get(depth, "training")


def processes() -> Iterator[tuple[int, int]]:
    """Every process with its parent."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            yield int(path.parent.name), int(path.read_text("utf-8", "replace").rpartition(")")[2].split()[1])


def wait_for_end(bench: Bench, launcher: int) -> None:
    """Wait for what trains in the bench's folder; what outlives its launcher for long is counted."""
    deadline = time.monotonic() + _END_SECONDS
    while left := [number for number in still_there(bench) if number != launcher]:
        if time.monotonic() > deadline:
            bench.odd("LEFT BEHIND", str(left))
            for number in (number for number in left if number > 0):
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            return
        time.sleep(0.05)


def still_there(bench: Bench) -> Iterator[int]:
    """Processes of trainings: those that name the bench's runs, and those that were forked warm."""
    yield from (number for _, number in family(0))
    yield from (number for number, _ in processes() if names(bench, number))
    if bench.image is not None:
        # Not to be killed from here: they end by themselves, or the number stands for one that did not.
        yield from (-1 for _ in containers(bench))


def names(bench: Bench, number: int) -> bool:
    """Whether a process's command line names the bench's runs."""
    with suppress(OSError):
        return str(bench.runs).encode() in Path(f"/proc/{number}/cmdline").read_bytes()
    return False


def judged(bench: Bench, run: RunDir, wanted: str, status: int) -> str:
    """The state of a run; counts what is wrong with it."""
    try:
        record = settled(run)
    except SamebitsError as error:
        bench.odd("LOST", f"{run.path}: {error}")
        return FINISHED
    state = record.outcome.state
    bench.counts[f"runs that are {state}"] += 1
    bench.said.append(f"{run.path.name}: {state} {record.outcome.message or ''}")
    if state == RUNNING:
        bench.odd("STILL RUNNING", f"{record.host}, {Path('/proc/locks').read_text()}")
    if state == FINISHED and str(record.result_digest) != wanted:
        bench.odd("WRONG", f"{run.path}: {record.result_digest}, not {wanted}")
    if state != FINISHED and status == 0:
        bench.odd("WRONG STATUS")
    return state


def settled(run: RunDir) -> Record:
    """The record, once the kernel has closed the files of processes that ended: a large one takes a moment."""
    deadline = time.monotonic() + _CLOSE_SECONDS
    while (record := run.read()).outcome.state == RUNNING and time.monotonic() < deadline:
        time.sleep(0.05)
    return record


def print_counts(counts: Counter[str]) -> None:
    """A table; what is wrong is in capitals, and should not be there."""
    print("| | |\n|---|---|")
    for name, number in sorted(counts.items()):
        print(f"| {name} | {number:,} |")


if __name__ == "__main__":
    main()
