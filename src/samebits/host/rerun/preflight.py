"""Check whether this host can reproduce a recorded run, and with which guarantee, before training for hours."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from samebits.core.code_tree import hash_kept_code
from samebits.core.determinism_profile import NATIVE, PORTABLE
from samebits.core.errors import (
    EngineError,
    InputError,
    RecordError,
    pluralize,
    shorten,
)
from samebits.core.file_tree import Tree, differing_paths, read_manifest
from samebits.core.jsonio import differing_names
from samebits.core.origin import VerifiedRun
from samebits.core.project import CodeLayout
from samebits.core.recipe import differing_parts
from samebits.core.record import FINISHED, Record
from samebits.core.redaction import given_again
from samebits.core.run_config import BITWISE, METRICS, REPRODUCIBILITY_LEVELS, RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import (
    PlannedRun,
    Resumption,
    check_runs,
    hash_data,
    make_recipe,
    plan_hashed,
    read_inputs,
)
from samebits.core.trace_level import Trace
from samebits.host.audit.file_audit import audit_files
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.compare.verdict import NO_METRICS, NOTHING
from samebits.host.console import hashing_progress, print_line, print_table
from samebits.host.image.received import packed_beside
from samebits.host.launch.runtime import Runtime, installed_venv
from samebits.host.rerun.fingerprint_cache import machine_fingerprint
from samebits.host.rerun.hardware import PreflightCheck, hardware, memory
from samebits.host.rerun.inputs_check import inputs_check
from samebits.host.rerun.software import REPORT_ONLY, SoftwareOptions, find_software

_MAX_NAMES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class PreflightReport:
    """All rows, and what they compare; `runtime` is None if the run's software is not available."""

    rows: tuple[PreflightCheck, ...]
    spec: RunConfig
    code: Tree
    data: Tree | None
    runtime: Runtime | None

    def reasons(self, level: str) -> list[str]:
        """Why the run cannot be judged at this level; empty if it can."""
        return [f"{row.name}: {row.reason}" for row in self.rows if level in row.blocks]

    @property
    def available_runtime(self) -> Runtime:
        """The runtime; raises EngineError if there is none."""
        if self.runtime is None:
            raise EngineError("the software of the run is not available; see `samebits preflight`")
        return self.runtime

    def planned(
        self,
        verifies: VerifiedRun | None = None,
        resumes: Resumption | None = None,
        attempts: tuple[str, ...] = (),
    ) -> PlannedRun:
        """The new run, which verifies or resumes the recorded one.

        It has no git commit: the code comes from the run's folder, and what a received record says was not checked.
        """
        # Code and data were hashed for the report; they are not hashed again.
        setup = replace(self.available_runtime.setup, verifies=verifies, resumes=resumes, attempts=attempts)
        return plan_hashed(self.spec, setup, code=self.code, data=self.data)


def recorded_config(run: RunDir, record: Record, *, data: Path | None, runs: Path) -> RunConfig:
    """The configuration of a recorded run, with the code that the run keeps; `data` is where the data is now."""
    recipe, origin = record.recipe, record.origin.data_folder
    if recipe.data is None and data is not None:
        raise InputError(f"the run {record.id} has no data; leave --data out")
    if recipe.data is not None and data is None:
        # A run outside of our launcher, in a plain container, does not know the path on the host.
        data = packed_beside(run.path, "data") or (None if origin is None else Path(origin))
    return RunConfig(
        script=run.code / recipe.code.entry,
        layout=CodeLayout.of_recorded(run.code.absolute(), recipe.code),
        arguments=recipe.code.arguments,
        redacted=given_again(recipe.code.redacted, os.environ),
        env=tuple(f"{name}={value}" for name, value in sorted(recipe.env.items())),
        data=data,
        inputs=None if recipe.inputs is None else run.inputs,
        seed=recipe.seed,
        threads=recipe.threads,
        profile=recipe.profile,
        shuffle=recipe.shuffle,
        workers=recipe.world_size,
        # A narrow trace would stop the new run after its window.
        trace=Trace() if record.trace.has_window else record.trace,
        keep=record.retention.keep,
        checkpoint_every=record.retention.every,
        level=record.level,
        runs=runs,
        exclude=record.exclude,
        ignore_outputs=recipe.ignore_outputs,
        gpus=None if recipe.device.kind == "cpu" else str(recipe.device.count),
        strict=record.strict,
    )


def preflight(
    run: RunDir,
    *,
    data: Path | None,
    runs: Path,
    needs_result: bool = True,
    software: SoftwareOptions = REPORT_ONLY,
) -> PreflightReport:
    """Compare this host with a run's record.

    A run to resume needs no result (`needs_result`). Raises RecordError if the record itself cannot be read.
    """
    record = run.read()
    outcome = [_outcome_check(record)] if needs_result else []
    return _compare_host(run, record, outcome, data=data, runs=runs, software=software)


def _compare_host(
    run: RunDir,
    record: Record,
    rows: list[PreflightCheck],
    *,
    data: Path | None,
    runs: Path,
    software: SoftwareOptions,
) -> PreflightReport:
    spec = recorded_config(run, record, data=data, runs=runs)
    check_runs(spec)
    code, code_row = _code(run, record)
    tree, data_row = _data(spec, run, record)
    rows += [*_ledger_check(run, record), *_files_check(run, record), code_row, data_row]
    place = len(rows)
    rows += [*hardware(record), *memory(record)]
    runtime = None
    # A row that blocks every level decides already; building an image for it would take minutes.
    if not any(set(row.blocks) == set(REPRODUCIBILITY_LEVELS) for row in rows):
        found, runtime = find_software(run, record, software)
        rows += found
    # A foreign run's URLs are not asked before its code is trusted.
    fetch = software.executes and runtime is not None
    rows[place:place] = inputs_check(run, record, fetch=fetch, offline=software.offline)
    # Both rows need the run's own software.
    if runtime is not None:
        measured = runtime if software.executes or runtime.isolated else installed_venv(record)
        rows += [*_fingerprint_check(record, spec, measured), _recipe_check(record, spec, runtime, code, tree)]
    rows.append(_guarantee(record, blocked=any(row.blocks for row in rows), here=runtime is not None))
    return PreflightReport(rows=tuple(rows), spec=spec, code=code, data=tree, runtime=runtime)


def _outcome_check(record: Record) -> PreflightCheck:
    blocks: tuple[str, ...] = ()
    reason = ""
    if record.result is None:
        blocks, reason = REPRODUCIBILITY_LEVELS, "the run has no result to reproduce"
    # An empty result is reproduced by any run, so only `documented` can be judged.
    elif record.holds_nothing:
        blocks, reason = (BITWISE, METRICS), NOTHING
    elif not record.has_metrics:
        blocks, reason = (METRICS,), NO_METRICS
    return PreflightCheck(name="outcome", wanted=FINISHED, found=record.outcome.state, reason=reason, blocks=blocks)


def _ledger_check(run: RunDir, record: Record) -> Iterator[PreflightCheck]:
    # A run that is being resumed may have no final record; its checkpoints are audited instead.
    if record.ledger is not None:
        check = check_ledger(run.ledger, record)
        yield PreflightCheck(
            name="ledger",
            wanted=f"{record.ledger.lines} lines",
            found=check.describe(),
            reason="; ".join(check.problems),
            blocks=REPRODUCIBILITY_LEVELS if check.problems else (),
        )


def _files_check(run: RunDir, record: Record) -> Iterator[PreflightCheck]:
    """The files of the run's folder, without those that the rows on ledger and code name."""
    # Checkpoints are read, and checked, only where a run is resumed.
    audit = audit_files(run, record, lambda path: not path.startswith(("checkpoints/", "code/")))
    named = [change for change in audit.damages if change.path != run.ledger.name]
    changes = [change for change in named if not (change.path.startswith("code/") and "executable" not in change.kind)]
    blocks = any(change.misleads for change in changes)
    yield PreflightCheck(
        name="files",
        wanted="as recorded",
        found="as recorded" if not changes else pluralize(len(changes), "change"),
        reason="" if not changes else shorten([str(change) for change in changes], _MAX_NAMES),
        blocks=REPRODUCIBILITY_LEVELS if blocks else (),
    )


def _code(run: RunDir, record: Record) -> tuple[Tree, PreflightCheck]:
    wanted = record.recipe.code.tree
    try:
        found = hash_kept_code(run, record.recipe.code)
    except InputError as error:
        reason = f"{error}; restore the run's folder"
        return Tree(entries=(), modes=record.recipe.code.modes), PreflightCheck(
            name="code", wanted=wanted.short, found="none", reason=reason, blocks=REPRODUCIBILITY_LEVELS
        )
    return found, _tree_row("code", wanted.short, found, run.code_manifest, same=found.digest == wanted)


def _tree_row(name: str, wanted: str, found: Tree, manifest: Path, *, same: bool) -> PreflightCheck:
    if same:
        return PreflightCheck(name=name, wanted=wanted, found=found.digest.short)
    try:
        changed = shorten(differing_paths(read_manifest(manifest), found), _MAX_NAMES)
    except RecordError:
        changed = ""
    reason = f"not what was recorded: {changed or 'the files are unknown, as the manifest is missing'}"
    return PreflightCheck(
        name=name, wanted=wanted, found=found.digest.short, reason=reason, blocks=REPRODUCIBILITY_LEVELS
    )


def _data(spec: RunConfig, run: RunDir, record: Record) -> tuple[Tree | None, PreflightCheck]:
    wanted = record.recipe.data
    if wanted is None:
        return None, PreflightCheck(name="data", wanted="none", found="none")
    if spec.data is None:
        reason = "the path of the data was not recorded; name the folder that holds it with --data"
        return None, PreflightCheck(
            name="data", wanted=wanted.short, found="none", reason=reason, blocks=REPRODUCIBILITY_LEVELS
        )
    try:
        with hashing_progress("hashing the data") as progress:
            found = hash_data(spec.data, progress)
    except InputError as error:
        reason = f"{str(error).partition(';')[0]}; name the folder that holds it with --data"
        return None, PreflightCheck(
            name="data", wanted=wanted.short, found="none", reason=reason, blocks=REPRODUCIBILITY_LEVELS
        )
    return found, _tree_row("data", wanted.short, found, run.data_manifest, same=found.digest == wanted)


def _fingerprint_check(record: Record, spec: RunConfig, runtime: Runtime) -> Iterator[PreflightCheck]:
    """Compute the fingerprint with the run's own software, and compare it operation by operation."""
    known = record.environment.arithmetic
    if known is None:
        return
    wanted = f"{len(known.operations)} operations"
    # Installing or loading the software may take minutes; every cheaper row came before.
    computed = machine_fingerprint(spec.determinism, runtime)
    if computed.operations is None:
        reason = f"the recorded software ended with status {computed.status}; see the lines on stderr"
        yield PreflightCheck(
            name="fingerprint", wanted=wanted, found="not available", reason=reason, blocks=REPRODUCIBILITY_LEVELS
        )
        return
    names = differing_names(known.operations, computed.operations)
    reason = f"this machine computes differently: {shorten(names, _MAX_NAMES)}" if names else ""
    same = f"{len(known.operations.keys() - set(names))} the same"
    image = runtime.setup.image
    known_image = record.recipe.image
    installed, recorded = ((item.lock, item.packages, item.source) for item in (image, known_image))
    other = installed != recorded
    # A difference may be one of the software. `verify` measures with the recorded one.
    if names and other:
        reason = f"measured with the installed samebits, which is another one: {shorten(names, _MAX_NAMES)}"
    blocks = (BITWISE,) if names and not other else ()
    yield PreflightCheck(name="fingerprint", wanted=wanted, found=same, reason=reason, blocks=blocks)


def _recipe_check(record: Record, spec: RunConfig, runtime: Runtime, code: Tree, data: Tree | None) -> PreflightCheck:
    """Compare the recipe that would run here with the recorded one. It covers all rows above."""
    found = make_recipe(spec, runtime.setup, code, data, read_inputs(spec))
    parts = differing_parts(record.recipe, found)
    reason = f"another recipe: {', '.join(parts)}" if parts else ""
    return PreflightCheck(
        name="recipe",
        wanted=record.recipe.digest.short,
        found=found.digest.short,
        reason=reason,
        blocks=(BITWISE,) if parts else (),
    )


def _guarantee(record: Record, *, blocked: bool, here: bool) -> PreflightCheck:
    """Which result to expect, and on which machines."""
    guarantee = record.environment.guarantee
    # A portable run that used an unproven operation guarantees its result on one class of machine only.
    profile = NATIVE if guarantee is None else guarantee.profile
    where = "every x86-64-v3 CPU, for proven operations" if profile == PORTABLE else "the same class of machine"
    reason = "" if here else "the fingerprint is taken once the image is here"
    if blocked:
        reason = "see the rows above"
    found = "none" if blocked else "identical" if here else "not known"
    return PreflightCheck(name="promise", wanted=f"the same bits on {where}", found=found, reason=reason)


def print_report(report: PreflightReport, level: str) -> None:
    """Print a report on stdout; the last line is the conclusion."""
    # In JSON the row keeps its first name.
    names = {"promise": "guarantee"}
    rows = [[names.get(row.name, row.name), row.wanted, row.found, row.reason or "ok"] for row in report.rows]
    print_table(["", "wanted", "found", "reason"], rows)
    print_line("not comparable" if report.reasons(level) else f"can be verified at the level {level}")
