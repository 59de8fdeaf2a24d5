"""`README.txt` of a run's folder: the record in words, for a person without samebits.

It follows from the record alone, so the same record gives the same text.
"""

import shlex
from collections.abc import Iterator

from samebits.core.errors import pluralize
from samebits.core.printable import printable
from samebits.core.record import Record
from samebits.core.result import FitResult

_WIDTH = 12  # of the column of names
_MAX_METRICS = 20  # of one fit; the record has all
_MAX_FITS = 20
_HEAD = "This folder holds one training run of a Keras script. samebits wrote it. record.json has every detail as JSON."
_FILES = """\
record.json     what ran, where, and the result; metrics are exact hexadecimal floats
ledger.jsonl    one line of JSON per epoch; each line holds the sha256 of the line before
code/           the code that ran
code.jsonl      the sha256 of each file of the code
data.jsonl      the sha256 of each file of the data, if there was any; the data is not here
image/          the locked packages, the Dockerfile and the sources that ran the script
outputs/        what the script wrote
models/         each trained model, as Keras saves it
log.txt         what the script printed
checkpoints/    from what an interrupted run can be resumed
files.jsonl     the sha256 of every file of this folder
"""
_CHECK = """\
sha256sum code.jsonl     gives the code digest above
sha256sum data.jsonl     gives the data digest above
sha256sum files.jsonl    gives "files" in record.json
"""
_AGAIN = """\
Read code/ before you run it. With samebits and Docker, this trains it again and compares every bit:

    samebits verify THIS_FOLDER{data}

Without samebits: install image/lock/requirements.lock with pip, set what "settings" in record.json lists, and start
the script. Its results are then close, not always equal to the bit.
"""


def describe_record(record: Record) -> str:
    """The text; what the record holds is escaped, so that no value can pretend to be a line of it."""
    blocks = [_HEAD, _rows(_what_ran(record)), _rows(_result(record)), "Files\n\n" + _indented(_FILES)]
    blocks += ["Check with standard tools\n\n" + _indented(_CHECK), "Train it again\n\n" + _again(record)]
    return f"Run {printable(record.id)}\n\n" + "\n\n".join(block.rstrip("\n") for block in blocks) + "\n"


def _what_ran(record: Record) -> Iterator[tuple[str, object]]:
    recipe, system = record.recipe, record.environment.system
    message = record.outcome.message
    yield "outcome", record.outcome.state + ("" if message is None else f": {message}")
    yield "started", record.started
    yield "script", recipe.code.entry
    yield "arguments", shlex.join(recipe.code.arguments) or "none"
    yield "seed", recipe.seed
    yield "profile", f"{recipe.profile}, {pluralize(recipe.threads, 'thread')}, {recipe.instruction_set}"
    if recipe.world_size != 1:
        yield "workers", recipe.world_size
    if system is not None:
        yield "versions", f"Python {system.python}, TensorFlow {system.tensorflow}, Keras {system.keras}"
        yield "cpu", system.cpu.model
    yield "code", recipe.code.tree
    yield "data", recipe.data or "none"
    yield "recipe", recipe.digest


def _result(record: Record) -> Iterator[tuple[str, object]]:
    result = record.result
    if result is None:
        yield "result", "none"
        return
    yield "result", result.digest
    yield "covers", record.covers
    for number, fit in enumerate(result.fits[:_MAX_FITS]):
        yield f"fit {number}", f"{fit.epochs} epochs; last values: {_metrics(fit)}"
    if len(result.fits) > _MAX_FITS:
        yield "more fits", len(result.fits) - _MAX_FITS


def _metrics(fit: FitResult) -> str:
    shown = [f"{name} {_decimal(values[-1])}" for name, values in fit.history.items() if values]
    return ", ".join(shown[:_MAX_METRICS]) + (", …" if len(shown) > _MAX_METRICS else "")


def _decimal(text: str) -> str:
    try:
        return f"{float.fromhex(text):.6g}"
    except (ValueError, OverflowError):
        return text


def _rows(rows: Iterator[tuple[str, object]]) -> str:
    return "\n".join(f"{name:<{_WIDTH}}{printable(str(value))}" for name, value in rows)


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def _again(record: Record) -> str:
    return _AGAIN.format(data="" if record.recipe.data is None else " --data FOLDER_OF_THE_DATA")
