"""What finer lines of the ledger cost (about five minutes).

Each process trains with and without the lines of steps in turns, so that both see the same state of the machine.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator

from figures import Figure
from measuring import HERE, Options, ratios, samebits, scratch

MODELS = {"digits": None, "million": 1.01, "resnet50": 1.05}
"""The greatest ratio of a step with its line to one without."""
LEVEL, ALONE = "`--trace step`", "a line of ResNet50 with Adam, alone"


def measure(options: Options) -> Iterator[Figure]:
    """Two processes of nine rounds each."""
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for _ in range(options.rounds_or(2)):
        for *words, value in trained("1" if options.small else "9"):
            found[tuple(words)].append(float(value))
    for name, most in MODELS.items():
        without, with_lines = (tuple(found[name, how]) for how in ("without", "with"))
        yield Figure(table=LEVEL, row=name, column="a step without", unit="s", values=without)
        yield Figure(table=LEVEL, row=name, column="with its line", unit="s", values=with_lines)
        yield Figure(table=LEVEL, row=name, column="ratio", values=ratios(with_lines, without), most=most)
    yield Figure(table=ALONE, row="bytes of its variables", column="", unit="MiB", values=tuple(found["part", "bytes"]))
    for name in ("reading", "hashing", "both"):
        yield Figure(table=ALONE, row=name, column="", unit="s", values=tuple(found["part", name]))


def trained(rounds: str) -> list[list[str]]:
    """The lines that one training prints, in words."""
    with scratch() as folder:
        shutil.copy(HERE / "train_traced.py", folder)
        words = ("train", "train_traced.py", "--runtime", "venv", "--trace", "step", "--", rounds)
        return [line.split() for line in samebits(*words, folder=folder).output.splitlines() if len(line.split()) == 3]
