"""What every format says of a run: names, digests, parameters, metrics, verdicts."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError, shorten
from samebits.core.printable import printable
from samebits.core.record import Record
from samebits.core.redaction import value_variable
from samebits.core.run_dir import RunDir
from samebits.host.audit.folder_audit import audit_ended
from samebits.host.runs.verdicts import each_verdict_on


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a user adds to an export: who wrote it, under which license, and where it will be found."""

    authors: tuple[str, ...] = ()
    license: str | None = None
    url: str | None = None


@contextmanager
def library(name: str) -> Iterator[None]:
    """Turn a missing library into one line that says how to install it."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"this export needs the library {name}: {error}; install it with `pip install 'samebits[export]'`"
        ) from error


def require_whole(run: RunDir) -> Record:
    """The record of a run that has ended, and whose files are as it says: others will take them for its own."""
    record, audit = audit_ended(run, "only a run that has ended can be exported")
    if record.files is None:
        raise InputError(f"the record of {record.id} names no list of its files, so it cannot be exported")
    changed = [str(change) for change in audit.files.damages] + list(audit.problems)
    if changed:
        raise RecordError(f"{run.path}: {shorten(changed, 3)}; restore the run's folder, then export it")
    return record


def digests(record: Record) -> dict[str, str]:
    """The digests that name a run and what it was made of."""
    recipe, image = record.recipe, record.recipe.image
    found: dict[str, Digest | None] = {
        "recipe": recipe.digest,
        "result": record.result_digest,
        "code": recipe.code.tree,
        "data": recipe.data,
        "inputs": recipe.inputs,
        "image": image.config,
        "lock": image.lock,
        "packages": image.packages,
    }
    return {name: str(digest) for name, digest in found.items() if digest is not None}


def versions(record: Record) -> dict[str, str]:
    """The software that a run observed; empty where it ended before."""
    system = record.environment.system
    if system is None:
        return {}
    return {
        "Python": system.python,
        "TensorFlow": system.tensorflow,
        "Keras": system.keras,
        "NumPy": system.numpy,
    }


def parameters(record: Record) -> dict[str, str]:
    """What was chosen for a run: settings, arguments, declared variables."""
    recipe = record.recipe
    arguments = shlex.join(recipe.code.arguments)
    chosen = {
        "entry": recipe.code.module or recipe.code.entry,
        "seed": str(recipe.seed),
        "profile": recipe.profile,
        "threads": str(recipe.threads),
        "shuffle": recipe.shuffle,
        **({} if recipe.world_size == 1 else {"workers": str(recipe.world_size)}),
        "device": recipe.device.kind,
        "level": record.level,
        **({"arguments": arguments} if arguments else {}),
        **{f"env.{name}": value for name, value in sorted(recipe.env.items())},
    }
    return {printable(name): printable(value) for name, value in chosen.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A value of a metric after an epoch; the name holds the number of the `fit` where a run has several."""

    name: str
    epoch: int
    value: float


def metrics(record: Record) -> Iterator[Metric]:
    """Every number of every metric; text is none."""
    fits = () if record.result is None else record.result.fits
    for number, fit in enumerate(fits):
        for name, values in fit.history.items():
            for epoch, value in enumerate(values):
                with suppress(ValueError, OverflowError):
                    full = printable(name if len(fits) == 1 else f"fit{number}.{name}")
                    yield Metric(name=full, epoch=epoch, value=float.fromhex(value))


def final_metrics(record: Record) -> dict[str, float]:
    """The last value of each metric."""
    return {metric.name: metric.value for metric in metrics(record)}


def started(record: Record) -> datetime:
    """When a run began."""
    try:
        return datetime.fromisoformat(record.started)
    except ValueError as error:
        raise RecordError(f"the record of {record.id} names no time: {record.started!r}") from error


def ended(record: Record) -> datetime:
    """When a run ended."""
    return started(record) + timedelta(seconds=record.timings.total or 0.0)


def verdicts(run: RunDir, record: Record) -> list[str]:
    """The verdict of each verification of just this run that lies beside it, and which run reached it."""
    beside = run.path.absolute().parent
    return [printable(f"{verdict}, by {name}") for name, verdict in each_verdict_on(run, record.id, beside)]


def verify_command(record: Record) -> str:
    """How to verify a run."""
    data = " --data DIR" if record.recipe.data is not None else ""
    secrets = "".join(f"{value_variable(name)}=… " for name in sorted(record.recipe.code.redacted))
    return printable(f"{secrets}samebits verify {shlex.quote(record.id)}{data}")


def default_path(run: RunDir, suffix: str) -> Path:
    """A file in the current folder, named by the run."""
    return Path(run.path.absolute().name + suffix)


def require_new(path: Path) -> None:
    """Raise InputError where something would be replaced."""
    if path.exists() or path.is_symlink():
        raise InputError(f"{path} exists already; remove it, or name another one with -o")
    if not path.absolute().parent.is_dir():
        raise InputError(f"there is no folder {path.absolute().parent}; create it, or name another one with -o")
