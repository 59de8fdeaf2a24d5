"""Submit a run to a cluster: prepare it as always, write the job's folder, hand over what is in there."""

import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import Fields, storage_error, write_atomically
from samebits.core.project import CONFIG_NAME
from samebits.core.run_config import CONTAINER, RunConfig
from samebits.core.run_dir import claim
from samebits.core.run_setup import PlannedRun, RunSetup, plan_run
from samebits.core.user_config import read_options
from samebits.host.cluster.config_file import config_from_fields, config_to_dict
from samebits.host.cluster.job_dir import JOBS, PREFIX, Job, JobDir
from samebits.host.cluster.schedulers import scheduler_of
from samebits.host.cluster.slurm_jobs import job_script, worker_script
from samebits.host.console import hashing_progress
from samebits.host.launch.frozen_code import freeze_code, from_frozen
from samebits.host.launch.git_commit import with_commit
from samebits.host.launch.runtime import choose_runtime
from samebits.host.launch.train import require_given
from samebits.host.runs.attempts import make_attempts

_OURS = (
    "export",
    "output",
    "o",
    "error",
    "e",
    "wrap",
    "array",
    "a",
    "chdir",
    "D",
    "no-requeue",
    "parsable",
    "get-user-env",
)
"""Flags of sbatch that decide what a run sees, or that the job could not be followed with."""
_OF_A_PROJECT = (
    *("account", "constraint", "cpus-per-task", "gpus", "gres", "mem", "mem-per-cpu", "nice", "partition", "qos"),
    *("reservation", "signal", "time"),
)
"""Flags that a project's samebits.toml may hold: none of them names a file or a program."""


def site_flags(spec: RunConfig, given: str | None) -> tuple[str, ...]:
    """The site's own flags for sbatch: the project's, then those of the command line. Raises InputError."""
    project = read_options(spec.code_folder / CONFIG_NAME, _project_flags).get("flags", [])
    return (*project, *read_flags(given))


def read_flags(given: str | None) -> tuple[str, ...]:
    """The flags of the command line; raises InputError for one that samebits sets itself."""
    try:
        flags = shlex.split(given or "")
    except ValueError as error:
        raise InputError(f"--sbatch {given!r} cannot be read: {error}; quote it as a shell would") from error
    for flag in flags:
        if flag.startswith("-") and flag.lstrip("-").partition("=")[0] in _OURS:
            raise InputError(f"the flag {flag} of sbatch is set by samebits; remove it")
    return tuple(flags)


def _project_flags(values: Fields, _: Path) -> dict[str, list[str]]:
    """The flags in `[on.slurm]`; raises RecordError for what a project may not choose."""
    on = values.optional_inner("on")
    table = None if on is None else on.optional_inner("slurm")
    flags: list[str] = []
    for name in sorted(table.names()) if table is not None else ():
        if name not in _OF_A_PROJECT:
            raise RecordError(f"'on.slurm.{name}' is not for a project to choose; use --sbatch")
        flags.append(f"--{name}={_text(table, name)}")
    return {"flags": flags}


def _text(table: Fields | None, name: str) -> str:
    value = {} if table is None else table.rest()
    found = value.get(name)
    if not isinstance(found, (str, int)) or isinstance(found, bool):
        raise RecordError(f"'on.slurm.{name}' must be text or a number, not {found!r}")
    return str(found)


def prepare(spec: RunConfig, flags: tuple[str, ...]) -> tuple[PlannedRun, Job]:
    """Plan a run with the runtime of this machine, which is part of its recipe; nothing is written yet."""
    require_given(spec)
    return plan_job(spec, flags)


def plan_job(spec: RunConfig, flags: tuple[str, ...]) -> tuple[PlannedRun, Job]:
    """The same, where script and data were looked for already."""
    runtime = choose_runtime(spec)
    with hashing_progress("hashing the data") as progress:
        planned = with_commit(plan_run(spec, runtime.setup, progress))
    submitted = datetime.now(UTC)
    name = planned.name.partition("-")[2]
    return planned, Job(
        id=f"{PREFIX}{submitted:%Y%m%dT%H%M%SZ}-{name}",
        submitted=submitted.isoformat(timespec="seconds"),
        recipe=planned.recipe,
        git=planned.setup.git,
        config=for_nodes(spec, planned.setup),
        flags=flags,
    )


def for_nodes(spec: RunConfig, setup: RunSetup) -> RunConfig:
    """The configuration for a node, which may work in another folder: with absolute paths, and the chosen runtime."""
    # A container may be of any engine that the node has. The virtual environment is another recipe.
    found = CONTAINER if setup.environment.in_container else "venv"
    runtime = found if spec.runtime == "auto" else spec.runtime
    return replace(config_from_fields(Fields(config_to_dict(spec))), runtime=runtime)


def with_script(folder: JobDir) -> None:
    """Write what Slurm starts."""
    for path, text in scripts_of(folder, folder.read().config).items():
        write_atomically(path, text.encode(), mode=0o755)


def scripts_of(folder: JobDir, config: RunConfig) -> dict[Path, str]:
    """The batch script, and where there are several workers what starts the others."""
    scripts = {folder.script: job_script(folder, config.runtime, config.workers)}
    if config.workers > 1:
        scripts[folder.worker_script] = worker_script(folder, config.runtime)
    return scripts


def submit(planned: PlannedRun, job: Job, complete: Callable[[JobDir], object] = with_script) -> JobDir:
    """Write the job's folder and submit it; returns the folder. If the cluster refuses the job, no folder is left.

    `complete` writes what the cluster is given.
    """
    runs = planned.spec.runs
    try:
        (runs / JOBS).mkdir(exist_ok=True)
        folder = JobDir(claim(runs / JOBS, job.id).path)
    except OSError as error:
        raise storage_error(error, runs / JOBS) from error
    try:
        _fill(folder, planned, replace(job, id=folder.path.name))
        complete(folder)
        submitted = scheduler_of(job).submit(folder, folder.read())
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    folder.write(submitted)
    return folder


def _fill(folder: JobDir, planned: PlannedRun, job: Job) -> None:
    try:
        make_attempts(folder.path)
        freeze_code(planned, folder.code)
    except OSError as error:
        raise storage_error(error, folder.path) from error
    frozen = from_frozen(replace(planned, spec=job.config), folder.code).spec
    folder.write(replace(job, config=frozen))
