"""Measure what checkpoints cost, and what verifying in segments saves: `make bench-resume` (about ten minutes).

Prints tables in Markdown. Rounds are interleaved, and medians are compared.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
COMMAND = str(Path(sys.executable).with_name("samebits"))
KEEPS = ("none", "last", "all")
STEPS_OF_ONE, EPOCHS_OF_ONE = "2", "14"
"""Of ResNet50: epochs of about a second, where checkpoints weigh most."""
EPOCHS = "400"
"""Of the example: as many as make its training longer than the start of a process."""


def main() -> None:
    """Run all, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runtime", default="auto", help="of the example, which is verified in segments")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print_replay(Path(folder), given.rounds)
    print_checkpoints(given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        print_segments(Path(folder), given.rounds, given.runtime)


def print_replay(folder: Path, rounds: int) -> None:
    """Seconds of a resumed run with and without the proof that it reproduces its last epoch."""
    shutil.copy(HERE / "train_resumed.py", folder)
    command = [COMMAND, "train", "train_resumed.py", "--runtime", "venv"]
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    (killed,) = folder.glob("runs/*-train_resumed-*")
    found: dict[str, list[float]] = {"--trust-checkpoint": [], "": []}
    epochs: list[float] = []
    for _ in range(rounds):
        for option, times in found.items():
            started = time.perf_counter()
            words = [COMMAND, "resume", killed.name, *option.split()]
            text = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout
            times.append(time.perf_counter() - started)
            epochs += [float(line.split()[1]) for line in text.splitlines() if line.startswith("epoch ")][:1]
    print("| resumed before its last epoch | seconds |\n|---|---|")
    for option, times in found.items():
        middle = statistics.median(times)
        print(f"| `resume {option}`".rstrip("` ") + f"` | {middle:.1f} ({min(times):.1f} to {max(times):.1f}) |")
    print(f"| the first epoch of these | {statistics.median(epochs):.1f} ({min(epochs):.1f} to {max(epochs):.1f}) |")


def print_checkpoints(rounds: int) -> None:
    """Seconds of an epoch of ResNet50, by what is kept."""
    found: dict[str, list[float]] = {keep: [] for keep in KEEPS}
    for _ in range(rounds):
        for keep in KEEPS:
            found[keep] += epochs(keep)
    none = statistics.median(found["none"])
    print(f"| ResNet50 with Adam, medians of {len(found['none'])} epochs | seconds per epoch | ratio |\n|---|---|---|")
    for keep, times in found.items():
        middle = statistics.median(times)
        print(f"| `--keep {keep}` | {middle:.2f} ({min(times):.2f} to {max(times):.2f}) | {middle / none:.3f} |")


def epochs(keep: str) -> list[float]:
    """The seconds of each epoch of one training."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(HERE / "train_checkpointed.py", folder)
        words = (
            "train",
            "train_checkpointed.py",
            "--runtime",
            "venv",
            "--keep",
            keep,
            "--",
            STEPS_OF_ONE,
            EPOCHS_OF_ONE,
        )
        lines = (line.split() for line in called(Path(folder), words).splitlines())
        return [float(words[1]) for words in lines if words[:1] == ["epoch"]]


def print_segments(folder: Path, rounds: int, runtime: str) -> None:
    """The example with one thread, verified in one piece and in segments, in turns."""
    shutil.copytree(HERE.parent / "examples" / "digits", folder / "digits")
    words = ("train", "digits/train.py", "--data", "digits/data", "--runtime", runtime, "--threads", "1")
    called(folder, (*words, "--keep", "all", "--", "--epochs", EPOCHS))
    (run,) = (path.name for path in (folder / "runs").glob("2*"))
    ways = {
        "`verify`": ("verify", run),
        "`verify --segments`": ("verify", run, "--segments"),
        "`verify --segments --jobs 2`": ("verify", run, "--segments", "--jobs", "2"),
        "`verify --segments --sample 3 --jobs 2`": ("verify", run, "--segments", "--sample", "3", "--jobs", "2"),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            assert called(folder, way).splitlines()[-1].startswith("identical")
            found[name].append(time.perf_counter() - started)
    whole = statistics.median(found["`verify`"])
    print(f"\n| `examples/digits`, {EPOCHS} epochs, one thread each | seconds | ratio |\n|---|---|---|")
    for name, times in found.items():
        middle = statistics.median(times)
        print(f"| {name} | {middle:.1f} ({min(times):.1f} to {max(times):.1f}) | {middle / whole:.2f} |")


def called(folder: Path, words: tuple[str, ...]) -> str:
    """What a command prints."""
    done = subprocess.run([COMMAND, *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
