"""Measure what the profiles cost, side by side: `make bench-profiles` (about a quarter of an hour).

Prints a table in Markdown and draws `benchmarks/profiles.svg`. Rounds are interleaved, and medians are compared.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

from samebits.core.determinism_profile import Profile
from samebits.host.image.build_context import staged_context
from samebits.host.launch.venv import locked_python

HERE = Path(__file__).parent
COMMAND = str(Path(sys.executable).with_name("samebits"))
FAMILIES = ("convolution", "recurrent", "transformer", "dense")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A row: its settings, and the row it is compared with."""

    name: str
    threads: int
    parts: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    against: str
    onednn: str | None = None
    """Another value of TF_ENABLE_ONEDNN_OPTS than the profile's."""


AVX2 = ("ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES")
"""With these, every library computes as on a CPU without AVX-512. Eigen, within TensorFlow, knows no more than AVX."""
DEFAULTS_AVX2 = "a CPU with AVX2 only: TensorFlow's defaults, 1 thread"
PINS = ("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES")
CONTENDERS = (
    Contender(name="TensorFlow's defaults, 2 threads", threads=2, against="TensorFlow's defaults, 2 threads"),
    Contender(
        name="native, 2 threads", threads=2, parts=("determinism", "sums"), against="TensorFlow's defaults, 2 threads"
    ),
    Contender(
        name="native, 2 threads, but for the order of sums",
        threads=2,
        parts=("determinism",),
        against="TensorFlow's defaults, 2 threads",
    ),
    Contender(name="TensorFlow's defaults, 1 thread", threads=1, against="TensorFlow's defaults, 1 thread"),
    Contender(
        name="native, 1 thread", threads=1, parts=("determinism", "sums"), against="TensorFlow's defaults, 1 thread"
    ),
    Contender(
        name="+ instructions pinned to AVX2",
        threads=1,
        parts=("determinism", "sums"),
        variables=PINS,
        against="TensorFlow's defaults, 1 thread",
    ),
    Contender(
        name="+ no rewrites of the graph",
        threads=1,
        parts=("determinism", "sums", "rewrites"),
        variables=PINS,
        against="TensorFlow's defaults, 1 thread",
    ),
    Contender(
        name="+ exact operations",
        threads=1,
        parts=("determinism", "sums", "rewrites", "exact"),
        variables=PINS,
        against="TensorFlow's defaults, 1 thread",
    ),
    Contender(
        name="`samebits train --profile portable`",
        threads=1,
        parts=("samebits",),
        against="TensorFlow's defaults, 1 thread",
    ),
    Contender(
        name="`samebits train --profile portable --threads 2`",
        threads=2,
        parts=("samebits",),
        against="TensorFlow's defaults, 2 threads",
    ),
    # Without AVX-512 or VNNI, TensorFlow leaves oneDNN off (`port.cc`).
    Contender(name=DEFAULTS_AVX2, threads=1, variables=AVX2, onednn="0", against=DEFAULTS_AVX2),
    Contender(
        name="a CPU with AVX2 only: the same with oneDNN", threads=1, variables=AVX2, onednn="1", against=DEFAULTS_AVX2
    ),
    Contender(
        name="a CPU with AVX2 only: `samebits train --profile portable`",
        threads=1,
        parts=("samebits",),
        against=DEFAULTS_AVX2,
    ),
)


def main() -> None:
    """Run all, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    found: dict[str, dict[str, list[float]]] = {row.name: {name: [] for name in FAMILIES} for row in CONTENDERS}
    for _ in range(rounds):
        for row in CONTENDERS:
            for family, speed in measured(row).items():
                found[row.name][family].append(speed)
    speeds = {
        name: {family: statistics.median(values) for family, values in families.items()}
        for name, families in found.items()
    }
    print_table(speeds, rounds)
    draw(speeds, HERE / "profiles.svg")


def measured(row: Contender) -> dict[str, float]:
    """Samples per second by family, of one process."""
    if row.parts == ("samebits",):
        return speeds_in(through_samebits(row.threads))
    settings = Profile(name="portable", threads=1).variables
    kept = {name: settings[name] for name in row.variables}
    if row.onednn is not None:
        kept["TF_ENABLE_ONEDNN_OPTS"] = row.onednn
    threads = {"TF_NUM_INTRAOP_THREADS": str(row.threads), "TF_NUM_INTEROP_THREADS": str(row.threads)}
    source = str(staged_context() / "source")
    environment = {"PATH": os.environ["PATH"], "HOME": "/tmp", "PYTHONPATH": source, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [str(locked_python()), str(HERE / "train_profiles.py"), *row.parts],
        env=environment | threads | kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return speeds_in(done.stdout)


def through_samebits(threads: int) -> str:
    """What the same script prints under the whole product: observed, watched, and with the settings in its parts."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(HERE / "train_profiles.py", folder)
        words = [
            COMMAND,
            "train",
            "train_profiles.py",
            "--runtime",
            "venv",
            "--profile",
            "portable",
            "--threads",
            str(threads),
        ]
        return subprocess.run(
            words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
        ).stdout


def speeds_in(printed: str) -> dict[str, float]:
    """The script's own lines."""
    lines = (line.split() for line in printed.splitlines())
    return {words[0]: float(words[1]) for words in lines if words and words[0] in FAMILIES}


def ratios(speeds: dict[str, dict[str, float]], row: Contender) -> list[float]:
    """Throughput by family, as parts of that of the row it is compared with."""
    return [speeds[row.name][family] / speeds[row.against][family] for family in FAMILIES]


def print_table(speeds: dict[str, dict[str, float]], rounds: int) -> None:
    """Markdown."""
    print(f"| samples per second, medians of {rounds} interleaved rounds | {' | '.join(FAMILIES)} |")
    print("|---" * (len(FAMILIES) + 1) + "|")
    for row in CONTENDERS:
        pairs = zip(FAMILIES, ratios(speeds, row), strict=True)
        print(
            f"| {row.name} | "
            + " | ".join(f"{speeds[row.name][name]:.0f} ({ratio:.2f})" for name, ratio in pairs)
            + " |"
        )


def draw(speeds: dict[str, dict[str, float]], path: Path) -> None:
    """Bars of the ratios; the file holds neither time nor random names."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "samebits"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    shown = [row for row in CONTENDERS if row.name != row.against]
    width = 0.8 / len(shown)
    for number, row in enumerate(shown):
        places = [place + (number - (len(shown) - 1) / 2) * width for place in range(len(FAMILIES))]
        axes.bar(places, ratios(speeds, row), width, label=row.name)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(FAMILIES)), FAMILIES)
    axes.set_ylabel("throughput, TensorFlow's defaults\nat the same threads = 1")
    axes.legend(fontsize="small", ncols=2, loc="lower center")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
