"""Runs and images as text: the table of `list`, the rows of `show`, and the summary that `list --json` prints."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from samebits.core.checkpoint_store import Position
from samebits.core.errors import RecordError, pluralize, shorten
from samebits.core.jsonio import as_record
from samebits.core.record import FINISHED, Record
from samebits.core.run_dir import RunDir
from samebits.host.audit.checkpoint_audit import refusals, why_not_resumable
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.console import log, print_table
from samebits.host.runs.registry import read_runs
from samebits.host.runs.verification_file import read_verification

if TYPE_CHECKING:
    from pathlib import Path

    from samebits.host.docker import Image
    from samebits.host.image.sbom import Package

Row = tuple[str, Any]
"""A name and its value."""


def list_runs(runs: "Path") -> None:
    """Print the table of a folder's runs on stdout."""
    rows = []
    for folder, record in read_runs(runs):
        try:
            with as_record(folder.record):
                rows.append(_list_row(folder, record))
        except RecordError as error:
            log(str(error))
    print_table(["run", "outcome", "seconds", "seed", "recipe", "result"], rows)


def summarise(folder: RunDir, record: Record) -> dict[str, Any]:
    """One run as `list --json` prints it."""
    return {
        "id": record.id,
        "folder": str(folder.path),
        "started": record.started,
        "outcome": record.outcome.state,
        "message": record.outcome.message,
        "seconds": record.timings.get("total"),
        "goal": record.goal,
        "seed": record.recipe.seed,
        "recipe": str(record.recipe.digest),
        "result": None if record.result_digest is None else str(record.result_digest),
        "resumes": _resumed(record).get("id"),
    }


def show_run(folder: RunDir) -> None:
    """Print one run on stdout; the record itself holds more.

    Raises RecordError, after all rows, where the ledger was edited or disagrees with the record.
    """
    record = folder.read()
    with as_record(folder.record):
        rows = [*_outcome_rows(record), *_verification_rows(folder), *_checkpoint_rows(folder, record)]
        rows += [*_recipe_rows(record), *_environment_rows(record), *_result_rows(record)]
        check = check_ledger(folder.ledger, record)
    rows += [("ledger", check.describe()), *(("  problem", problem) for problem in check.problems)]
    print_table(["run", record.id], [[name, str(value)] for name, value in rows])
    # The exit status alone would hide what the folder still shows, so the table comes first.
    if check.problems:
        raise RecordError(f"{folder.ledger}: {shorten(check.problems, 1)}; do not rely on this run")


def show_image(image: "Image", known: Mapping[str, Any], packages: "Sequence[Package]") -> None:
    """Print one image on stdout: digests, layers, builder, packages."""
    # An image of other builders may lack some of these.
    rows = [(name, known[name]) for name in ("config", "manifest", "base", "lock", "source") if known.get(name)]
    rows += [("layer", layer) for layer in known["layers"]]
    rows += [(f"builder {name}", value or "none") for name, value in known.get("builder", {}).items()]
    rows += [(f"{package.kind} {package.name}", package.version) for package in packages]
    print_table(["image", image.reference], [[name, str(value)] for name, value in rows])


def _list_row(folder: RunDir, record: Record) -> list[str]:
    result = record.result_digest
    return [
        folder.path.name,
        record.outcome.state,
        f"{record.timings.get('total', 0):.1f}" if record.timings else "",
        str(record.recipe.seed),
        record.recipe.digest.short,
        result.short if result else "",
    ]


def _outcome_rows(record: Record) -> list[Row]:
    outcome = record.outcome
    rows = [("outcome", outcome.state if outcome.message is None else f"{outcome.state}: {outcome.message}")]
    rows += [("unseeded", f"{use} ({pluralize(use.times, 'time')})") for use in record.entropy]
    return [*rows, ("started", record.started), ("level", record.goal)]


def _verification_rows(folder: RunDir) -> list[Row]:
    """Which run this one verifies, and the verdict; nothing for any other run."""
    if not folder.verification.exists():
        return []
    found = read_verification(folder.verification)
    with as_record(folder.verification):
        return [("verifies", f"{found['verified']['id']}: {found['verdict']}, at the level {found['goal']}")]


def _resumed(record: Record) -> Mapping[str, Any]:
    """What the record holds of the run that it resumes; empty where it resumes none."""
    return record.origin.get("resumes") or {}


def _checkpoint_rows(folder: RunDir, record: Record) -> Iterator[Row]:
    """Which run it resumes, whether it can be resumed itself, and how many checkpoints it keeps."""
    if resumed := _resumed(record):
        name = resumed.get("checkpoint")
        yield "resumes", f"{resumed['id']} from {'the beginning' if name is None else Position.parse(name)}"
    if not record.retention.writes:
        return
    why = why_not_resumable(folder, record)
    # A finished run needs no resuming; whether it could have been resumed is still worth knowing.
    if record.outcome.state == FINISHED:
        reasons = refusals(folder, record)
        why = "it finished" + (f"; it was not resumable: {'; '.join(reasons)}" if reasons else "")
    yield "resumable", "yes" if why is None else f"no: {why}"
    yield "checkpoints", f"{len(folder.checkpoints.positions())} (keep {record.retention.keep})"


def _recipe_rows(record: Record) -> list[Row]:
    recipe = record.recipe
    image = recipe.image
    return [
        ("recipe", recipe.digest),
        # A plain container cannot know its own image; the note says why.
        ("  image", image.config or record.environment.get("image_note", "not given")),
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


def _environment_rows(record: Record) -> list[Row]:
    seen = record.environment
    # A run that failed before its training observed nothing.
    if "python" not in seen:
        return []
    versions = ", ".join(f"{name} {seen[name]}" for name in ("python", "tensorflow", "keras", "numpy"))
    settings = [(f"  {item['name']}", f"{item['found']} ({item['by']})") for item in seen.get("settings", ())]
    return [
        ("runtime", seen.get("runtime")),
        ("versions", versions),
        ("system", f"{seen['system']}, kernel {seen['kernel']}"),
        ("cpu", f"{seen['cpu']['model']} ({seen['cpu']['family_model_stepping']})"),
        *_guarantee_rows(seen),
        ("settings", "value read back, and where"),
        *settings,
    ]


def _guarantee_rows(seen: Mapping[str, Any]) -> list[Row]:
    """How the machine computes, and where the same bits are guaranteed; early versions recorded neither."""
    rows: list[Row] = []
    if seen.get("fingerprint"):
        rows.append(("fingerprint", seen["fingerprint"]["digest"]))
    if seen.get("promise"):
        rows.append(("guarantee", f"the {seen['promise']['profile']} profile's"))
        rows += [("  not proven", name) for name in seen["promise"].get("unproven", ())]
    return rows


def _result_rows(record: Record) -> list[Row]:
    if record.result is None:
        return []
    rows: list[Row] = [("result", record.result_digest)]
    for model in record.result["models"]:
        count = sum(len(group) for group in model["tensors"].values())
        rows.append((f"  model {model['name']}", f"{model['digest']} ({count} tensors)"))
    for fit in record.result["fits"]:
        last = ", ".join(f"{name} {_decimal(values[-1])}" for name, values in fit["history"].items())
        rows.append((f"  fit, {fit['epochs']} epochs", last))
    rows += [(f"  {item['path']}", f"{item.get('digest', '')} ({item['by']})") for item in record.result["outputs"]]
    return rows


def _decimal(text: str) -> str:
    """An exact float as a short decimal."""
    try:
        return f"{float.fromhex(text):.6g}"
    except ValueError:
        return text
