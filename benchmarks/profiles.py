"""What the profiles cost, step by step (about 15 minutes); `python benchmarks/profiles.py` draws the kept figures."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from figures import Figure, Measurement
from measuring import HERE, Options, call, interleaved, ratios, samebits, scratch

from samebits.core.determinism_profile import Profile
from samebits.host.image.build_context import staged_context
from samebits.host.launch.venv import locked_python

FAMILIES = ("convolution", "recurrent", "transformer", "dense")
SPEED, RATIO = "samples per second", "throughput, as a part of TensorFlow's defaults with as many threads"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A row: its settings, and the row it is compared with."""

    name: str
    threads: int
    parts: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    against: str
    least: float | None = None
    onednn: str | None = None
    """Another value of TF_ENABLE_ONEDNN_OPTS than the profile's."""


AVX2 = ("ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES")
"""With these, every library computes as on a CPU without AVX-512. Eigen, within TensorFlow, knows no more than AVX."""
DEFAULTS_AVX2 = "a CPU with AVX2 only: TensorFlow's defaults, 1 thread"
PINS = ("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES")
CONTENDERS = (
    Contender(name="TensorFlow's defaults, 2 threads", threads=2, against="TensorFlow's defaults, 2 threads"),
    Contender(
        name="native, 2 threads",
        threads=2,
        parts=("determinism", "sums"),
        against="TensorFlow's defaults, 2 threads",
        least=0.95,
    ),
    Contender(
        name="native, 2 threads, but for the order of sums",
        threads=2,
        parts=("determinism",),
        against="TensorFlow's defaults, 2 threads",
    ),
    Contender(name="TensorFlow's defaults, 1 thread", threads=1, against="TensorFlow's defaults, 1 thread"),
    Contender(
        name="native, 1 thread",
        threads=1,
        parts=("determinism", "sums"),
        against="TensorFlow's defaults, 1 thread",
        least=0.95,
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
        least=0.8,
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


def measure(options: Options) -> Iterator[Figure]:
    """Samples per second of four families under each row."""
    rows = [row for row in CONTENDERS if not row.variables] if options.small else CONTENDERS
    found = interleaved({row.name: partial(measured, row) for row in rows}, options.rounds_or(5))
    for row in rows:
        for family in FAMILIES:
            speeds, base = (tuple(speed[family] for speed in found[name]) for name in (row.name, row.against))
            yield Figure(table=SPEED, row=row.name, column=family, unit="/s", values=speeds)
            if row.name != row.against:
                part = ratios(speeds, base)
                yield Figure(table=RATIO, row=row.name, column=family, values=part, least=row.least)


def measured(row: Contender) -> dict[str, float]:
    """Samples per second by family, of one process."""
    if row.parts == ("samebits",):
        with scratch() as folder:
            shutil.copy(HERE / "train_profiles.py", folder)
            ours = ("train", "train_profiles.py", "--runtime", "venv", "--profile", "portable")
            done = samebits(*ours, "--threads", str(row.threads), folder=folder)
    else:
        settings = Profile(name="portable", threads=1).variables
        kept = {name: settings[name] for name in row.variables}
        if row.onednn is not None:
            kept["TF_ENABLE_ONEDNN_OPTS"] = row.onednn
        threads = {"TF_NUM_INTRAOP_THREADS": str(row.threads), "TF_NUM_INTEROP_THREADS": str(row.threads)}
        source = str(staged_context() / "source")
        environment = {"PATH": os.environ["PATH"], "HOME": "/tmp", "PYTHONPATH": source, "PYTHONHASHSEED": "0"}
        words = (str(locked_python()), str(HERE / "train_profiles.py"), *row.parts)
        done = call(*words, environment=environment | threads | kept)
    return {family: done.numbers(family)[0] for family in FAMILIES}


def draw(path: Path) -> None:
    """Bars of the kept ratios; the file holds neither time nor random names."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "samebits"
    from matplotlib import pyplot as plt

    kept = Measurement.read(HERE / "kept" / "profiles.json").figures
    values = {(figure.row, figure.column): figure.value for figure in kept if figure.table == RATIO}
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    shown = list(dict.fromkeys(row for row, _ in values))
    width = 0.8 / len(shown)
    for number, row in enumerate(shown):
        places = [place + (number - (len(shown) - 1) / 2) * width for place in range(len(FAMILIES))]
        axes.bar(places, [values[row, family] for family in FAMILIES], width, label=row.replace("`", ""))
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(FAMILIES)), FAMILIES)
    axes.set_ylabel("throughput, TensorFlow's defaults\nat the same threads = 1")
    figure.legend(fontsize="small", ncols=2, loc="outside lower center")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(HERE / "profiles.svg")
