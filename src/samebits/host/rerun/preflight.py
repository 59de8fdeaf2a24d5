"""Whether this host can reproduce a recorded run, and with which promise: seconds, before hours."""

import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from samebits.core.determinism_profile import NATIVE, PORTABLE
from samebits.core.errors import EngineError, ImageError, InputError, NoEngineError, RecordError, shorten
from samebits.core.file_tree import Tree, differing_paths, read_manifest
from samebits.core.jsonio import Fields, differing_names
from samebits.core.origin import VerifiedRun
from samebits.core.recipe import differing_parts
from samebits.core.record import FINISHED, Record
from samebits.core.run_config import BITWISE, METRICS, REPRODUCIBILITY_LEVELS, RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import (
    PlannedRun,
    Resumption,
    check_runs,
    hash_data,
    hash_kept_code,
    make_recipe,
    plan_hashed,
)
from samebits.core.trace_level import Trace
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.compare.verdict import NO_METRICS, NOTHING
from samebits.host.console import hashing_progress, print_table
from samebits.host.image.build_context import check_kept
from samebits.host.launch.runtime import Runtime, in_recorded_image, in_recorded_venv
from samebits.host.rerun.hardware import PreflightCheck, hardware, memory

_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class PreflightReport:
    """All rows, and what they were made of; `runtime` is None where the software is not here."""

    rows: tuple[PreflightCheck, ...]
    spec: RunConfig
    code: Tree
    data: Tree | None
    runtime: Runtime | None

    def reasons(self, goal: str) -> list[str]:
        """Why nothing can be said at this goal; empty where it can."""
        return [f"{row.name}: {row.follows}" for row in self.rows if goal in row.blocks]

    @property
    def at_hand(self) -> Runtime:
        """The runtime; raises EngineError where there is none."""
        if self.runtime is None:
            raise EngineError("the software of the run is not here; see `samebits preflight`")
        return self.runtime

    def planned(self, verifies: VerifiedRun | None = None, resumes: Resumption | None = None) -> PlannedRun:
        """The run that repeats the recorded one, or goes on from it, and names it where that is so."""
        setup = replace(self.at_hand.setup, verifies=verifies, resumes=resumes)
        return plan_hashed(self.spec, setup, code=self.code, data=self.data)


def recorded_config(run: RunDir, record: Record, *, data: Path | None, runs: Path) -> RunConfig:
    """The request that a record was made of, over the code that the run keeps; `data` is where the data is now."""
    recipe, origin = record.recipe, record.origin.data
    if recipe.data is None and data is not None:
        raise InputError(f"the run {record.id} has no data; leave --data out")
    if recipe.data is not None and data is None and origin is not None:
        data = Path(origin)
    return RunConfig(
        script=run.code / recipe.code.entry,
        arguments=recipe.code.arguments,
        data=data,
        seed=recipe.seed,
        threads=recipe.threads,
        profile=recipe.profile,
        shuffle=recipe.shuffle,
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
    rebuild: bool = False,
    offline: bool = False,
    needs_result: bool = True,
) -> PreflightReport:
    """Hold this host against a run's record; `rebuild` makes an image again that is not here.

    A run that is to be resumed needs no result yet. Raises RecordError where the record itself cannot be read.
    """
    record = run.read()
    outcome = [_outcome(record)] if needs_result else []
    return _report(run, record, outcome, data=data, runs=runs, rebuild=rebuild, offline=offline)


def _report(
    run: RunDir,
    record: Record,
    rows: list[PreflightCheck],
    *,
    data: Path | None,
    runs: Path,
    rebuild: bool,
    offline: bool,
) -> PreflightReport:
    spec = recorded_config(run, record, data=data, runs=runs)
    check_runs(spec)
    code, code_row = _code(run, record)
    tree, data_row = _data(spec, run, record)
    rows = [*rows, *_ledger(run, record), code_row, data_row, *hardware(record), *memory(record)]
    runtime = None
    if not any(set(row.blocks) == set(REPRODUCIBILITY_LEVELS) for row in rows):
        software, runtime = _software(run, record, rebuild=rebuild, offline=offline)
        rows += software
    if runtime is not None:
        rows += [*_fingerprint(record, spec, runtime), _recipe(record, spec, runtime, code, tree)]
    rows.append(_promise(record, blocked=any(row.blocks for row in rows), here=runtime is not None))
    return PreflightReport(rows=tuple(rows), spec=spec, code=code, data=tree, runtime=runtime)


def _outcome(record: Record) -> PreflightCheck:
    blocks: tuple[str, ...] = ()
    follows = ""
    if record.result is None:
        blocks, follows = REPRODUCIBILITY_LEVELS, "the run has no result that could be reached again"
    elif record.holds_nothing:
        blocks, follows = (BITWISE, METRICS), NOTHING
    elif not record.has_metrics:
        blocks, follows = (METRICS,), NO_METRICS
    return PreflightCheck(name="outcome", wanted=FINISHED, found=record.outcome.state, follows=follows, blocks=blocks)


def _ledger(run: RunDir, record: Record) -> Iterator[PreflightCheck]:
    if record.ledger is not None:
        check = check_ledger(run.ledger, record)
        yield PreflightCheck(
            name="ledger",
            wanted=f"{record.ledger.lines} lines",
            found=check.describe(),
            follows="; ".join(check.problems),
            blocks=REPRODUCIBILITY_LEVELS if check.problems else (),
        )


def _code(run: RunDir, record: Record) -> tuple[Tree, PreflightCheck]:
    wanted = record.recipe.code.tree
    try:
        found = hash_kept_code(run)
    except InputError as error:
        follows = f"{error}; restore the run's folder"
        return Tree(entries=()), PreflightCheck(
            name="code", wanted=wanted.short, found="none", follows=follows, blocks=REPRODUCIBILITY_LEVELS
        )
    return found, _tree_row("code", wanted.short, found, run.code_manifest, same=found.digest == wanted)


def _tree_row(name: str, wanted: str, found: Tree, manifest: Path, *, same: bool) -> PreflightCheck:
    if same:
        return PreflightCheck(name=name, wanted=wanted, found=found.digest.short)
    try:
        changed = shorten(differing_paths(read_manifest(manifest), found), _SHOWN)
    except RecordError:
        changed = ""
    follows = f"not what was recorded: {changed or 'which files, its manifest does not tell'}"
    return PreflightCheck(
        name=name, wanted=wanted, found=found.digest.short, follows=follows, blocks=REPRODUCIBILITY_LEVELS
    )


def _data(spec: RunConfig, run: RunDir, record: Record) -> tuple[Tree | None, PreflightCheck]:
    wanted = record.recipe.data
    if wanted is None:
        return None, PreflightCheck(name="data", wanted="none", found="none")
    if spec.data is None:
        follows = "the record does not say where the data was; name the folder that holds it with --data"
        return None, PreflightCheck(
            name="data", wanted=wanted.short, found="none", follows=follows, blocks=REPRODUCIBILITY_LEVELS
        )
    try:
        with hashing_progress("hashing the data") as progress:
            found = hash_data(spec.data, progress)
    except InputError as error:
        follows = f"{str(error).partition(';')[0]}; name the folder that holds it with --data"
        return None, PreflightCheck(
            name="data", wanted=wanted.short, found="none", follows=follows, blocks=REPRODUCIBILITY_LEVELS
        )
    return found, _tree_row("data", wanted.short, found, run.data_manifest, same=found.digest == wanted)


def _software(
    run: RunDir, record: Record, *, rebuild: bool, offline: bool
) -> tuple[list[PreflightCheck], Runtime | None]:
    """The image or the virtual environment that the run was made in, and what it takes to have it."""
    try:
        if record.environment.runtime == "docker":
            return _image(run, record, rebuild=rebuild, offline=offline)
        return _venv(run, record)
    except (NoEngineError, ImageError, RecordError, InputError) as error:
        wanted = str(record.recipe.image.config or record.recipe.image.lock)
        return [
            PreflightCheck(
                name="software", wanted=wanted, found="not to be had", follows=str(error), blocks=REPRODUCIBILITY_LEVELS
            )
        ], None


def _image(run: RunDir, record: Record, *, rebuild: bool, offline: bool) -> tuple[list[PreflightCheck], Runtime | None]:
    from samebits.host.docker import Engine
    from samebits.host.image.rebuild import find_recorded, provide_recorded

    recorded = record.recipe.image
    wanted = recorded.config.short if recorded.config is not None else f"of source {recorded.source.short}"
    engine = Engine()
    image = provide_recorded(engine, run, record, offline=offline) if rebuild else find_recorded(engine, record)
    if image is None:
        check_kept(run.image, recorded)
        follows = "`samebits verify` rebuilds it from what the run keeps, and compares its digest"
        return [PreflightCheck(name="image", wanted=wanted, found="not here", follows=follows)], None
    rows = [PreflightCheck(name="image", wanted=wanted, found=f"{wanted} as {image.reference}")]
    return rows, in_recorded_image(engine, image, record)


def _venv(run: RunDir, record: Record) -> tuple[list[PreflightCheck], Runtime | None]:
    recorded, python = record.recipe.image, platform.python_version()
    runtime = in_recorded_venv(run, record)
    other = "" if recorded.python == python else "another Python is another recipe; run samebits with the recorded one"
    return [
        PreflightCheck(name="lock", wanted=recorded.lock.short, found=f"{recorded.lock.short} in the run's folder"),
        PreflightCheck(
            name="python",
            wanted=str(recorded.python),
            found=python,
            follows=other,
            blocks=(BITWISE,) if other else (),
        ),
    ], runtime


def _fingerprint(record: Record, spec: RunConfig, runtime: Runtime) -> Iterator[PreflightCheck]:
    """Have the run's own software compute what it computed then, and compare operation by operation."""
    known = record.environment.arithmetic
    if known is None:
        return
    runtime.prepare()
    words = ("fingerprint", "--profile", spec.profile, "--threads", str(spec.determinism.threads), "--json")
    status, text = runtime.ask(words, spec.determinism.variables)
    wanted = f"{len(known.operations)} operations"
    try:
        found = Fields(json.loads(text)).mapping("operations", str)
    except (ValueError, RecordError):
        follows = f"the recorded software ended with status {status}; see the lines on stderr"
        yield PreflightCheck(
            name="fingerprint", wanted=wanted, found="not to be had", follows=follows, blocks=REPRODUCIBILITY_LEVELS
        )
        return
    names = differing_names(known.operations, found)
    follows = f"this machine computes otherwise: {shorten(names, _SHOWN)}" if names else ""
    same = f"{len(known.operations.keys() - set(names))} the same"
    yield PreflightCheck(
        name="fingerprint", wanted=wanted, found=same, follows=follows, blocks=(BITWISE,) if names else ()
    )


def _recipe(record: Record, spec: RunConfig, runtime: Runtime, code: Tree, data: Tree | None) -> PreflightCheck:
    """The recipe that would run here: the last word on what the rows before are about."""
    found = make_recipe(spec, runtime.setup, code, data)
    parts = differing_parts(record.recipe, found)
    follows = f"another recipe: {', '.join(parts)}" if parts else ""
    return PreflightCheck(
        name="recipe",
        wanted=record.recipe.digest.short,
        found=found.digest.short,
        follows=follows,
        blocks=(BITWISE,) if parts else (),
    )


def _promise(record: Record, *, blocked: bool, here: bool) -> PreflightCheck:
    """What may be expected of the result."""
    guarantee = record.environment.guarantee
    profile = NATIVE if guarantee is None else guarantee.profile
    where = "every x86-64-v3 CPU" if profile == PORTABLE else "the same class of machine"
    follows = "" if here else "the machine is asked once the image is here"
    if blocked:
        follows = "see the rows above"
    found = "none" if blocked else "identical" if here else "not known"
    return PreflightCheck(name="promise", wanted=f"the same bits on {where}", found=found, follows=follows)


def print_report(report: PreflightReport, goal: str) -> None:
    """For people, on stdout; the last line is the answer."""
    rows = [[row.name, row.wanted, row.found, row.follows or "ok"] for row in report.rows]
    print_table(["", "wanted", "found", "what follows"], rows)
    print("not comparable" if report.reasons(goal) else f"can be verified at the goal {goal}")
