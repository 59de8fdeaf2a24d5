"""What checkpoints cost, what a resume costs, and what verifying in segments saves (about half an hour)."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from figures import Figure
from loads import watched
from measuring import COMMAND, HERE, ROOT, Options, interleaved, ratios, samebits, scratch

STEPS_OF_ONE, EPOCHS_OF_ONE = 2, 30
"""Of ResNet50: epochs of about a second, where checkpoints weigh most."""
KEEPS = {"none": None, "last": 1.03, "all": 1.03}
"""The greatest ratio of an epoch to one without checkpoints."""
EPOCHS = "400"
"""Of the example: as many as make its training longer than the start of a process."""
PROOF_SECONDS = 2.0
"""That the replay proof may take beside the epoch which it trains again."""


def measure(options: Options) -> Iterator[Figure]:
    """Three parts, each in interleaved rounds."""
    with scratch() as folder:
        yield from resumes(folder, options)
    yield from checkpoints(options)
    with scratch() as folder:
        yield from segments(folder, options)


def resumes(folder: Path, options: Options) -> Iterator[Figure]:
    """A resumed run of 10 million parameters with and without the proof that it reproduces its last epoch."""
    shutil.copy(HERE / "train_resumed.py", folder)
    train = [COMMAND, "train", "train_resumed.py", "--runtime", "venv", "--keep", "all"]
    subprocess.run(train, cwd=folder, capture_output=True, check=False)  # it kills itself
    (killed,) = folder.glob("runs/*-train_resumed-*")
    actions = {
        command: partial(watched, partial(samebits, *command.split(), killed.name, folder=folder))
        for command in ("resume --trust-checkpoint", "resume")
    }
    found = interleaved(actions, options.rounds_or(5))
    trusting, proving = found.values()
    cell = partial(Figure, table="resumed before its last epoch")
    for command, calls in found.items():
        values, loads = (tuple(one.call.seconds for one in calls), tuple(one.loads for one in calls))
        yield cell(row=f"`{command}`", column="time", unit="s", values=values)
        yield cell(row=f"`{command}`", column="processes that load TensorFlow", unit="of them", values=loads, most=1)
    one_epoch = tuple(one.call.numbers("epoch")[0] for one in proving)
    yield cell(row="one epoch", column="time", unit="s", values=one_epoch)
    rest = tuple(
        with_proof.call.seconds - without.call.seconds - epoch
        for with_proof, without, epoch in zip(proving, trusting, one_epoch, strict=True)
    )
    yield cell(row="the proof beside its epoch", column="time", unit="s", values=rest, most=PROOF_SECONDS)


def checkpoints(options: Options) -> Iterator[Figure]:
    """An epoch of ResNet50, by what is kept: the mean of each round, as most epochs may have no checkpoint."""
    epochs = 4 if options.small else EPOCHS_OF_ONE
    found = interleaved({keep: partial(epoch, keep, epochs) for keep in KEEPS}, options.rounds_or(5))
    for keep, most in KEEPS.items():
        table, row, values = "ResNet50 with Adam, in the virtual environment", f"`--keep {keep}`", tuple(found[keep])
        yield Figure(table=table, row=row, column="an epoch", unit="s", values=values)
        yield Figure(table=table, row=row, column="ratio", values=ratios(values, found["none"]), most=most)


def epoch(keep: str, epochs: int) -> float:
    """The mean seconds of the epochs of one training."""
    with scratch() as folder:
        shutil.copy(HERE / "train_checkpointed.py", folder)
        script = ("train", "train_checkpointed.py", "--runtime", "venv", "--keep", keep)
        taken = samebits(*script, "--", str(STEPS_OF_ONE), str(epochs), folder=folder).numbers("epoch")
        return sum(taken) / len(taken)


def segments(folder: Path, options: Options) -> Iterator[Figure]:
    """The example with one thread, verified in one piece and in segments."""
    epochs = "8" if options.small else EPOCHS
    shutil.copytree(ROOT / "examples" / "digits", folder / "digits")
    train = ("train", "digits/train.py", "--data", "digits/data", "--threads", "1", "--keep", "all")
    samebits(*train, "--", "--epochs", epochs, folder=folder)
    (run,) = (path.name for path in (folder / "runs").glob("2*"))
    ways: dict[str, float | None] = {
        "verify": None,
        "verify --segments": None,
        "verify --segments --jobs 2": 0.55,
        "verify --segments --sample 3 --jobs 2": None,
    }
    actions = {way: partial(verified, folder, (*way.split(), run)) for way in ways}
    found = interleaved(actions, options.rounds_or(3))
    for way, most in ways.items():
        table, row, values = f"`examples/digits`, {epochs} epochs, one thread each", f"`{way}`", tuple(found[way])
        yield Figure(table=table, row=row, column="whole", unit="s", values=values)
        yield Figure(table=table, row=row, column="ratio", values=ratios(values, found["verify"]), most=most)


def verified(folder: Path, words: tuple[str, ...]) -> float:
    """Seconds of a command that must find the same bits."""
    done = samebits(*words, folder=folder)
    if not done.output.splitlines()[-1].startswith("identical"):
        raise SystemExit(f"{' '.join(words)}: {done.output}")
    return done.seconds
