"""Runs and images as text: the rows of `show`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from samebits.core.environment import Environment, ReadBack
from samebits.core.errors import RecordError, pluralize, shorten
from samebits.core.origin import GitCommit, ResumedRun
from samebits.core.printable import printable
from samebits.core.record import FINISHED, Record, read_record
from samebits.core.run_dir import RunDir
from samebits.host.audit.checkpoint_audit import NEVER_BEGAN, refusals, why_not_resumable
from samebits.host.audit.folder_audit import last_record
from samebits.host.audit.ledger_audit import LedgerCheck, check_ledger
from samebits.host.audit.resume_point import describe_resume_point
from samebits.host.console import print_table
from samebits.host.runs.listed_run import short_decimal
from samebits.host.runs.verification_file import read_verification

if TYPE_CHECKING:
    from samebits.host.docker import Image
    from samebits.host.image.sbom import Package

Row = tuple[str, Any]
"""A name and its value."""


def show_run(folder: RunDir, resume_name: str) -> None:
    """Print one run on stdout; the record itself holds more. `resume_name` is what `samebits resume` finds it by.

    Raises RecordError, after all rows, where the ledger was edited or disagrees with the record.
    """
    record = folder.read()
    rows = [*_outcome_rows(record), *_late_rows(folder), *_verification_rows(folder)]
    rows += [
        *_checkpoint_rows(folder, record, resume_name),
        *_recipe_rows(record),
        *_git_rows(record.origin.git),
        *_environment_rows(record.environment),
        *_result_rows(record),
    ]
    check = _checked_ledger(folder, record)
    rows += [("ledger", check.describe()), *(("  problem", problem) for problem in check.problems)]
    print_table(["run", record.id], [[name, str(value)] for name, value in rows])
    # The exit status alone would hide what the folder still shows, so the table comes first.
    _require_intact(folder, check)


def require_intact_ledger(folder: RunDir, record: Record) -> None:
    """Raise RecordError where the ledger was edited or disagrees with the record."""
    _require_intact(folder, _checked_ledger(folder, record))


def _checked_ledger(folder: RunDir, record: Record) -> LedgerCheck:
    # A run that went on after its record was finalized has the ledger that its late record names.
    return check_ledger(folder.ledger, last_record(folder, record))


def _require_intact(folder: RunDir, check: LedgerCheck) -> None:
    if check.problems:
        raise RecordError(f"{folder.ledger}: {shorten(check.problems, 1)}; do not rely on this run")


def show_image(image: "Image", known: Mapping[str, Any], packages: "Sequence[Package]") -> None:
    """Print one image on stdout: digests, layers, builder, packages."""
    # An image of other builders may lack some of these.
    names = ("config", "manifest", "base", "lock", "packages", "source")
    rows = [(name, known[name]) for name in names if known.get(name)]
    rows += [("layer", layer) for layer in known["layers"]]
    rows += [(f"builder {name}", value or "none") for name, value in known.get("builder", {}).items()]
    rows += [(f"{item.kind} {item.name}", f"{item.version} ({item.origin})") for item in packages]
    print_table(["image", image.reference], [[name, str(value)] for name, value in rows])


def _outcome_rows(record: Record) -> list[Row]:
    outcome = record.outcome
    rows = [("outcome", outcome.state if outcome.message is None else f"{outcome.state}: {outcome.message}")]
    rows += [("unseeded", f"{use} ({pluralize(use.times, 'time')})") for use in record.entropy]
    rows += [("unpinned", f"{use} ({pluralize(use.times, 'time')})") for use in record.environment.unpinned or ()]
    rows += [("set by script", str(setting)) for setting in record.environment.script_settings or ()]
    return [*rows, ("started", record.started), ("level", record.level)]


def _late_rows(folder: RunDir) -> Iterator[Row]:
    """How a run ended that went on although another process had finalized its record."""
    for path in folder.late_records():
        late = read_record(path)
        result = "no result" if late.result_digest is None else f"result {late.result_digest}"
        yield (
            "late record",
            f"{path.name}: {late.outcome.state}, {result}; the run continued after it was declared ended",
        )


def _verification_rows(folder: RunDir) -> list[Row]:
    """Which run this one verifies, and the verdict; nothing for any other run."""
    if not folder.verification.exists():
        return []
    found = read_verification(folder.verification)
    return [("verifies", f"{found.verified}: {found.verdict}, at the level {found.level}")]


def _checkpoint_rows(folder: RunDir, record: Record, resume_name: str) -> Iterator[Row]:
    """Which run it resumes, whether and where it can be resumed itself, and how many checkpoints it keeps."""
    if record.origin.attempts:
        yield "earlier attempts", ", ".join(record.origin.attempts)
    if cached := record.origin.data_cache:
        yield "data cache", f"{pluralize(cached.files, 'file')} not read before the run, {cached.checked} checked"
    if resumed := record.origin.resumes:
        yield "resumes", f"{resumed.id} from {resumed.checkpoint or 'the beginning'}"
        yield from _replay_rows(resumed)
    # A finished run needs no resuming; whether it could have been resumed is still worth knowing.
    if record.outcome.state == FINISHED:
        if record.retention.writes:
            reasons = refusals(folder, record)
            yield "resumable", "no: it finished" + (f"; it was not resumable: {'; '.join(reasons)}" if reasons else "")
            yield _count_row(folder, record)
        return
    why = why_not_resumable(folder, record)
    if why is not None:
        yield "resumable", f"no: {_instead(record) if why == NEVER_BEGAN else why}"
    else:
        yield "resumable", f"yes: samebits resume {resume_name}"
        yield "  begins at", describe_resume_point(folder, record)
    if record.retention.writes:
        yield _count_row(folder, record)


def _count_row(folder: RunDir, record: Record) -> Row:
    return "checkpoints", f"{len(folder.checkpoints_now.positions())} (keep {record.retention.keep})"


def _instead(record: Record) -> str:
    """What to do with a run that never began: `resume` takes the run that it was to resume."""
    resumed = record.origin.resumes
    return NEVER_BEGAN if resumed is None else f"it ended before its training began; resume {resumed.id}, as it did"


def _replay_rows(resumed: ResumedRun) -> Iterator[Row]:
    """Whether the run proved that it continues the other one exactly."""
    if resumed.trusted:
        yield "replay", "skipped (--trust-checkpoint)"
    elif resumed.replays is not None:
        yield "replay", f"{resumed.replays}: {'reproduced' if resumed.reproduced else 'not reproduced'}"


def _recipe_rows(record: Record) -> list[Row]:
    recipe = record.recipe
    image = recipe.image
    return [
        ("recipe", recipe.digest),
        # A plain container cannot know its own image; the note says why.
        ("  image", image.config or record.environment.image_note or "not given"),
        ("  base", image.base or "none"),
        ("  lock", image.lock),
        *(() if image.packages is None else [("  packages", image.packages)]),
        ("  source", image.source),
        ("  code", f"{recipe.code.tree} {recipe.code.entry}"),
        *((("  module", recipe.code.module),) if recipe.code.module is not None else ()),
        *((("  working folder", recipe.code.workdir),) if recipe.code.chosen_workdir is not None else ()),
        *(("  import path", folder) for folder in recipe.code.pythonpath),
        ("  arguments", " ".join(recipe.code.arguments) or "none"),
        *(("  variable", f"{name}={value}") for name, value in recipe.env.items()),
        ("  data", recipe.data or "none"),
        *((("  inputs", recipe.inputs),) if recipe.inputs is not None else ()),
        ("  seed", recipe.seed),
        ("  profile", f"{recipe.profile}, {pluralize(recipe.threads, 'thread')}, {recipe.instruction_set}"),
        ("  shuffle", recipe.shuffle),
        *((("  workers", recipe.world_size),) if recipe.world_size != 1 else ()),
        ("  device", " ".join(str(part) for part in (recipe.device.kind, recipe.device.model) if part)),
    ]


def _git_rows(git: GitCommit | None) -> list[Row]:
    """Where the code is kept; no part of the recipe."""
    if git is None:
        return []
    return [("git", git), *([] if git.remote is None else [("  remote", printable(git.remote))])]


def _environment_rows(environment: Environment) -> list[Row]:
    system = environment.system
    # A run that failed before its training observed nothing.
    if system is None:
        return []
    versions = f"python {system.python}, tensorflow {system.tensorflow}, keras {system.keras}, numpy {system.numpy}"
    return [
        ("runtime", environment.runtime),
        ("versions", versions),
        ("system", f"{system.system}, kernel {system.kernel}"),
        ("cpu", f"{system.cpu.model} ({system.cpu.family_model_stepping})"),
        *_guarantee_rows(environment),
        *(("off", f"{name}: {reason}") for name, reason in (environment.features_off or {}).items()),
        ("settings", "value read back, and where"),
        *((f"  {item.name}", _setting_text(item)) for item in environment.settings or ()),
    ]


def _setting_text(item: ReadBack) -> str:
    """The value that was read back; seeds are read before the script, which may set its own."""
    when = " at the start" if item.name.startswith("seed of ") else ""
    return f"{item.found}{when} ({item.by})"


def _guarantee_rows(environment: Environment) -> list[Row]:
    """How the machine computes, and where the same bits are guaranteed; early versions recorded neither."""
    rows: list[Row] = []
    if environment.arithmetic is not None:
        rows.append(("fingerprint", environment.arithmetic.digest))
    if environment.guarantee is not None:
        rows.append(("guarantee", f"the {environment.guarantee.profile} profile's"))
        rows += [("  not proven", name) for name in environment.guarantee.unproven or ()]
        rows += [("  not covered", f"what {name} computes") for name in environment.guarantee.not_covered]
    return rows


def _result_rows(record: Record) -> list[Row]:
    result = record.result
    if result is None:
        return []
    rows: list[Row] = [("result", result.digest), ("  covers", record.covers)]
    rows += [("  left out", path) for path in (record.coverage.ignored if record.coverage else ())]
    rows += [("  not saved", text) for text in (record.coverage.unsaved if record.coverage else ())]
    for model in result.models:
        count = sum(len(group) for group in model.tensors.values())
        rows.append((f"  model {model.name}", f"{model.digest} ({count} tensors)"))
    for fit in result.fits:
        last = ", ".join(f"{name} {short_decimal(values[-1])}" for name, values in fit.history.items())
        rows.append((f"  fit, {fit.epochs} epochs", last))
    rows += [(f"  {item.path}", f"{item.digest} ({item.by})") for item in result.outputs]
    return rows
