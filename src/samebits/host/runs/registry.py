"""Find runs again, list them, and show one."""

from samebits.core.errors import shorten


from samebits.core.errors import pluralize


import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samebits.core.digest import with_checksum
from samebits.core.environment import Environment
from samebits.core.jsonio import Fields, read_json
from samebits.core.errors import InputError, RecordError, pluralize, shorten
from samebits.host.audit.checkpoint_audit import why_not_resumable, refusals
from samebits.host.console import print_table, log
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.runs.verification_file import read_verification
from samebits.core.record import FINISHED, Record, read_record
from samebits.core.record_summary import RecordSummary
from samebits.core.run_dir import MARKER, RunDir
from samebits.core.run_config import CONFIG_NAME, read_config

if TYPE_CHECKING:
    from samebits.host.docker import Image
    from samebits.host.image.sbom import Package


def runs_folder(named: Path | None) -> Path:
    """Where runs are kept: as named, else as the samebits.toml of this folder says, else `runs`."""
    return named or read_config(Path(CONFIG_NAME)).get("runs") or Path("runs")


def find_run(name: str, runs: Path) -> RunDir:
    """The run that `name` means: a folder, an id, an unambiguous beginning of one, or `last`. Raises InputError."""
    direct = RunDir(Path(name))
    if os.path.isfile(direct.record):
        return direct
    if name and os.path.isdir(name) and os.sep in name:
        raise InputError(f"the folder {name} is no run: it holds no {direct.record.name}; name the folder of a run")
    folders = _folders(runs)
    if name == "last" and folders:
        return folders[-1]
    found = [folder for folder in folders if folder.path.name.startswith(name)]
    exact = [folder for folder in found if folder.path.name == name]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise InputError(f"there is no run {name} in {runs}; `samebits list` shows what there is")
    names = ", ".join(folder.path.name for folder in found[:3])
    raise InputError(f"{len(found)} runs begin with {name} ({names}, …); write more of the name")


def runs_beside(run: RunDir, otherwise: Path) -> Path:
    """The folder of runs that a run lies in; `otherwise` where it lies in none."""
    folder = run.path.absolute().parent
    return folder if (folder / MARKER).exists() else otherwise


def read_runs(runs: Path) -> list[tuple[RunDir, RecordSummary]]:
    """All runs of a folder by name, which is by time; one that cannot be read is named on stderr and left out.

    Checksums are not checked here, for speed; `show` does.
    """
    if not os.path.isdir(runs):
        raise InputError(f"there is no folder {runs}; `samebits train` makes it, or name another with --runs")
    found = []
    for folder in _folders(runs):
        try:
            found.append((folder, folder.read_summary()))
        except RecordError as error:
            log(str(error))
    return found


def list_runs(runs: Path) -> None:
    """A table on stdout."""
    rows = [_row(folder, summary) for folder, summary in read_runs(runs)]
    print_table(["run", "outcome", "seconds", "seed", "recipe", "result"], rows)


def summarise(folder: RunDir, summary: RecordSummary) -> dict[str, Any]:
    """One run as `list --json` gives it."""
    return {
        "id": summary.id,
        "folder": str(folder.path),
        "started": summary.started,
        "outcome": summary.outcome.state,
        "message": summary.outcome.message,
        "seconds": summary.seconds,
        "goal": summary.level,
        "seed": summary.seed,
        "recipe": str(summary.recipe),
        "result": None if summary.result is None else str(summary.result),
        "resumes": summary.resumes,
    }


def run_as_json(folder: RunDir) -> Any:
    """The record as its file holds it; of a run that died before it finalized its record, with the outcome that has."""
    record = folder.read()
    fields = Fields(read_json(folder.record))
    if read_record(folder.record).outcome == record.outcome:
        return fields.rest()
    return with_checksum(fields.rest("seal") | {"outcome": record.outcome.to_dict()})


def checksum_of(folder: RunDir) -> str:
    """The seal of a run's record, as its file holds it."""
    return Fields(read_json(folder.record)).get("seal", str)


def show_run(folder: RunDir) -> None:
    """One run for people, on stdout; the record itself holds more.

    Raises RecordError, after all rows, where the ledger is not as it was written or does not agree with the record.
    """
    record = folder.read()
    rows = [*_outcome_rows(record), *_verification_rows(folder), *_checkpoint_rows(folder, record)]
    rows += [*_recipe_rows(record), *_environment_rows(record.environment), *_result_rows(record)]
    check = check_ledger(folder.ledger, record)
    rows += [("ledger", check.describe()), *(("  problem", problem) for problem in check.problems)]
    print_table(["run", record.id], [[name, str(value)] for name, value in rows])
    if check.problems:
        raise RecordError(f"{folder.ledger}: {shorten(check.problems, 1)}; do not rely on this run")


def show_image(image: "Image", known: Mapping[str, Any], packages: "Sequence[Package]") -> None:
    """One image for people, on stdout: digests, layers, builder, packages."""
    rows = [(name, known[name]) for name in ("config", "manifest", "base", "lock", "source") if known.get(name)]
    rows += [("layer", layer) for layer in known["layers"]]
    rows += [(f"builder {name}", value or "none") for name, value in known.get("builder", {}).items()]
    rows += [(f"{package.kind} {package.name}", package.version) for package in packages]
    print_table(["image", image.reference], [[name, str(value)] for name, value in rows])


def _row(folder: RunDir, summary: RecordSummary) -> list[str]:
    return [
        folder.path.name,
        summary.outcome.state,
        "" if summary.seconds is None else f"{summary.seconds:.1f}",
        str(summary.seed),
        summary.recipe.short,
        "" if summary.result is None else summary.result.short,
    ]


def _outcome_rows(record: Record) -> list[tuple[str, Any]]:
    outcome = record.outcome
    rows = [("outcome", outcome.state if outcome.message is None else f"{outcome.state}: {outcome.message}")]
    rows += [("no seed reaches", f"{taken} ({pluralize(taken.times, 'time')})") for taken in record.entropy]
    return [*rows, ("started", record.started), ("goal", record.level)]


def _verification_rows(folder: RunDir) -> list[tuple[str, Any]]:
    """Of a run that verifies another: which, and what came of it."""
    if not folder.verification.exists():
        return []
    found = read_verification(folder.verification)
    return [("verifies", f"{found.verified}: {found.verdict}, at the goal {found.level}")]


def _checkpoint_rows(folder: RunDir, record: Record) -> Iterator[tuple[str, Any]]:
    """Which run it resumes, whether it can be resumed itself, and what there is to go on from."""
    if resumed := record.origin.resumes:
        yield "resumes", f"{resumed.id} from {resumed.checkpoint or 'the beginning'}"
    if not record.retention.writes:
        return
    why = why_not_resumable(folder, record)
    if record.outcome.state == FINISHED:
        reasons = refusals(folder, record)
        why = f"it finished{'; nor could it have been exactly: ' if reasons else ''}{'; '.join(reasons)}"
    yield "resumable", "yes" if why is None else f"no: {why}"
    yield "checkpoints", f"{len(folder.checkpoints.positions())} (keep {record.retention.keep})"


def _recipe_rows(record: Record) -> list[tuple[str, Any]]:
    recipe = record.recipe
    image = recipe.image
    return [
        ("recipe", recipe.digest),
        ("  image", image.config or record.environment.image_note or "not given"),
        ("  base", image.base or "none"),
        ("  lock", image.lock),
        ("  source", image.source),
        ("  code", f"{recipe.code.tree} {recipe.code.entry}"),
        ("  arguments", " ".join(recipe.code.arguments) or "none"),
        ("  data", recipe.data or "none"),
        ("  seed", recipe.seed),
        ("  profile", f"{recipe.profile}, {recipe.threads} threads, {recipe.instruction_set}"),
        ("  shuffle", recipe.shuffle),
        ("  device", " ".join(str(part) for part in (recipe.device.kind, recipe.device.model) if part)),
    ]


def _environment_rows(environment: Environment) -> list[tuple[str, Any]]:
    system = environment.system
    if system is None:
        return []
    versions = f"python {system.python}, tensorflow {system.tensorflow}, keras {system.keras}, numpy {system.numpy}"
    return [
        ("runtime", environment.runtime),
        ("versions", versions),
        ("system", f"{system.system}, kernel {system.kernel}"),
        ("cpu", f"{system.cpu.model} ({system.cpu.family_model_stepping})"),
        *_promise_rows(environment),
        ("settings", "as read back, and where"),
        *((f"  {item.name}", f"{item.found} ({item.by})") for item in environment.settings or ()),
    ]


def _promise_rows(environment: Environment) -> list[tuple[str, Any]]:
    """How the machine computes, and how far the result can be reproduced; version 1.0 records neither."""
    rows: list[tuple[str, Any]] = []
    if environment.arithmetic is not None:
        rows.append(("fingerprint", environment.arithmetic.digest))
    if environment.guarantee is not None:
        rows.append(("promise", f"the {environment.guarantee.profile} profile's"))
        rows += [("  not proven", name) for name in environment.guarantee.unproven or ()]
    return rows


def _result_rows(record: Record) -> list[tuple[str, Any]]:
    result = record.result
    if result is None:
        return []
    rows: list[tuple[str, Any]] = [("result", result.digest)]
    for model in result.models:
        count = sum(len(group) for group in model.tensors.values())
        rows.append((f"  model {model.name}", f"{model.digest} ({count} tensors)"))
    for fit in result.fits:
        last = ", ".join(f"{name} {_decimal(values[-1])}" for name, values in fit.history.items())
        rows.append((f"  fit, {fit.epochs} epochs", last))
    rows += [(f"  {item.path}", f"{item.digest} ({item.by})") for item in result.outputs]
    return rows


def _decimal(text: str) -> str:
    """An exact float for people."""
    try:
        return f"{float.fromhex(text):.6g}"
    except ValueError:
        return text


def _folders(runs: Path) -> list[RunDir]:
    """The folders that hold a record; one without is a run that is still being prepared."""
    if not os.path.isdir(runs):
        return []
    try:
        paths = sorted(path for path in runs.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot read {runs}: {error.strerror}; make it readable for you") from error
    folders = map(RunDir, paths)
    return [folder for folder in folders if os.path.lexists(folder.record)]
