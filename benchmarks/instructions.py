"""How many instructions a whole run takes beside plain Python: its start, and each step (about 40 minutes).

Processor time scatters by several percent on a virtual machine, and such a machine has no counters for `perf stat`. So
valgrind counts. It knows neither AVX-512 nor SHA's instructions: hashing weighs more there than it does in time.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from figures import Figure
from measuring import HERE, Options, UnavailableError, call, interleaved, scratch
from overhead import EQUAL, OURS, actions_of, compared, plain_commands, splits
from run_counted import VALGRIND


def measure(options: Options) -> Iterator[Figure]:
    """One thread, as valgrind runs one at a time; a small network, as it computes slowly."""
    if shutil.which("valgrind") is None:
        raise UnavailableError("needs valgrind")
    with scratch() as folder:
        (folder / "code").mkdir()  # samebits hashes all that is there
        shutil.copy(HERE / "train_timed.py", folder / "code" / "train.py")
        yield from counted(folder, options)


def counted(folder: Path, options: Options) -> Iterator[Figure]:
    """Rounds of both contenders with both lengths. Each of the first eight epochs always has a checkpoint."""
    epochs = (1, 2) if options.small else (9, 19)
    ours = (sys.executable, str(HERE / "run_counted.py"), str(folder / "inner"))
    words = (*ours, "train", "--runtime", "venv", "--threads", "1", "train.py", "--", "--dense")
    command, variables = plain_commands(1)[EQUAL]
    contenders = {EQUAL: ((*command, "--dense"), variables), OURS: (words, os.environ)}
    actions = actions_of(
        contenders, epochs, lambda command, variables: instructions(command, variables, folder, "code")
    )
    found = interleaved(actions, options.rounds_or(2))
    yield from compared("instructions, one thread", splits(found, contenders, epochs), "million")


def instructions(command: Sequence[str], variables: Mapping[str, str], folder: Path, code: str = "") -> float:
    """Millions of instructions of a command in `folder/code`, and of the training that it starts."""
    outer, inner = folder / "outer", folder / "inner"
    inner.unlink(missing_ok=True)
    call(*VALGRIND, f"--cachegrind-out-file={outer}", *command, folder=folder / code, environment=variables)
    return sum(counts_in(path) for path in (outer, inner) if path.exists()) / 1e6


def counts_in(file: Path) -> int:
    """The sum at the end of cachegrind's file."""
    (line,) = [line for line in file.read_text(errors="replace").splitlines() if line.startswith("summary:")]
    return int(line.split()[1])
