"""`samebits train --on slurm` and `--on kubernetes`, `follow` and `cancel`: runs on a cluster."""

import argparse
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.environment import KUBERNETES
from samebits.core.errors import EXIT_INTERRUPTED, EXIT_OK, InputError, RecordError
from samebits.core.run_config import RunConfig
from samebits.host.cli.options import add_runs_folder
from samebits.host.console import log, print_json, print_line, print_table

if TYPE_CHECKING:
    from samebits.host.cluster.job_dir import Job, JobDir

SLURM = "slurm"
_HELP = "a job's folder, its id, or a prefix of the id"


def add_on(parser: argparse.ArgumentParser) -> None:
    """Add the options that send a run to a cluster."""
    parser.add_argument(
        "--on", metavar="CLUSTER", help="train on a cluster: slurm or kubernetes (default: on this machine)"
    )
    parser.add_argument("--sbatch", metavar="FLAGS", help="with --on slurm: flags for sbatch: --sbatch='--time=60 …'")
    parser.add_argument(
        "--dry-run", action="store_true", help="with --on: print the batch script or manifest and submit nothing"
    )


def check_on(options: argparse.Namespace, clusters: tuple[str, ...] = ("slurm",)) -> None:
    """Raise InputError for another cluster, and for an option that has no effect without one."""
    if options.on not in {None, *clusters}:
        raise InputError(f"--on takes {' or '.join(clusters)}, not {options.on!r}")
    if options.on is None and (options.sbatch is not None or getattr(options, "dry_run", False)):
        fitting = clusters if options.sbatch is None else (SLURM,)
        choice = " or ".join(f"--on {cluster}" for cluster in fitting)
        raise InputError(f"--sbatch and --dry-run are for a cluster; add {choice}")
    if options.on == KUBERNETES and options.sbatch is not None:
        raise InputError("--sbatch is for --on slurm; settings of pods are in samebits.toml under [on.kubernetes]")


def submit_command(spec: RunConfig, options: argparse.Namespace) -> int:
    """Submit a run and follow it; Ctrl-C stops following, and the job continues."""
    from samebits.host.cluster.submission import prepare, site_flags, submit

    if options.on == KUBERNETES:
        return _submit_pods(spec, options)
    flags = site_flags(spec, options.sbatch)
    planned, job = prepare(spec, flags)
    if options.dry_run:
        _show_slurm(spec, job)
        return EXIT_OK
    return _follow_submitted(submit(planned, job), options)


def _show_slurm(spec: RunConfig, job: "Job") -> None:
    """Print what would be submitted, and have Slurm check it. Raises ToolError where it refuses the job."""
    import tempfile

    from samebits.host.cluster import slurm
    from samebits.host.cluster.job_dir import JOBS, JobDir
    from samebits.host.cluster.submission import scripts_of

    folder = JobDir(spec.runs / JOBS / job.id)
    scripts = scripts_of(folder, job.config)
    words = shlex.join(("sbatch", "--parsable", "--export=NIL", *job.flags, folder.script.name))
    for path, text in scripts.items():
        print_line(f"# {words}" if path == folder.script else f"# {path.name}, for each worker but the first")
        for line in text.splitlines():
            print_line(line)
    _say_unkept(folder, "script")
    if not slurm.is_installed():
        log("not checked by Slurm: there is no sbatch here")
        return
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch) / folder.script.name
        script.write_text(scripts[folder.script])
        slurm.check(script, job.flags)
    log("Slurm would take the job")


def _say_unkept(folder: "JobDir", what: str) -> None:
    log(f"nothing was submitted, and nothing is kept: the {what} names the folder {folder.path}, which is not there")


def _submit_pods(spec: RunConfig, options: argparse.Namespace) -> int:
    from samebits.host.cluster.job_dir import JOBS, JobDir
    from samebits.host.cluster.pod_submission import prepare_pods
    from samebits.host.cluster.submission import submit

    submission = prepare_pods(spec)
    if options.dry_run:
        for line in submission.check().splitlines():
            print_line(line)
        _say_unkept(JobDir(spec.runs / JOBS / submission.job.id), "manifest")
        log("the server would take the job")
        return EXIT_OK
    return _follow_submitted(submit(submission.planned, submission.job, submission.complete), options)


def _follow_submitted(folder: "JobDir", options: argparse.Namespace) -> int:
    job = folder.read()
    print_line(f"job {folder.path}")
    print_line(f"{job.scheduler} {job.number}", flush=True)
    return _follow(folder, as_json=options.json)


def add_follow_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits follow`."""
    parser.add_argument("job", metavar="JOB", help=_HELP)
    add_runs_folder(parser)
    parser.set_defaults(command=lambda options: _follow(_find(options.job, options.runs), as_json=False))


def add_cancel_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits cancel`."""
    parser.add_argument("job", metavar="JOB", help=_HELP)
    add_runs_folder(parser)
    parser.set_defaults(command=lambda options: cancel_command(_find(options.job, options.runs)))


def cancel_command(folder: "JobDir") -> int:
    """Cancel a job; its run, if it has begun, is finalized as interrupted and can be resumed."""
    from samebits.host.cluster.schedulers import scheduler_of, state_of

    job = folder.read()
    state = state_of(folder, job)
    if state.over or job.number is None:
        raise InputError(f"the job {folder.path.name} is over: {state}; there is nothing to cancel")
    # First: the node requeues what ended by a signal, unless this is there.
    _note_cancelled(folder)
    scheduler_of(job).cancel(folder, job)
    print_line(f"cancelled {folder.path.name}")
    return EXIT_OK


def _note_cancelled(folder: "JobDir") -> None:
    from samebits.core.jsonio import storage_error
    from samebits.core.run_files import touch_plain

    try:
        touch_plain(folder.cancelled)
    except OSError as error:
        raise storage_error(error, folder.cancelled) from error


def print_jobs(runs: Path, *, as_json: bool) -> None:
    """Print the jobs of a folder of runs, with their states."""
    from samebits.host.cluster.job_dir import jobs_of

    rows = list(_rows(jobs_of(runs)))
    if as_json:
        print_json(rows)
    else:
        # A cluster that has none of the jobs gets no column.
        names = [name for name in _COLUMNS if name != KUBERNETES or any(row[name] for row in rows)]
        print_table(names, [[str(row[name] or "") for name in names] for row in rows])


def _rows(jobs: "Sequence[JobDir]") -> Iterator[dict[str, object]]:
    for folder in jobs:
        try:
            yield _row(folder)
        except RecordError as error:  # of one job, which hides no other
            log(str(error))


_COLUMNS = ("job", SLURM, KUBERNETES, "state", "detail", "attempts", "run")


def _row(folder: "JobDir") -> dict[str, object]:
    from samebits.host.cluster.schedulers import state_of

    job, attempts = folder.read(), folder.attempts()
    state = state_of(folder, job)
    run = attempts[-1].path.name if attempts else None
    numbers = (job.number if job.scheduler == cluster else None for cluster in (SLURM, KUBERNETES))
    values = (folder.path.name, *numbers, state.kind, state.detail, len(attempts), run)
    return dict(zip(_COLUMNS, values, strict=True))


def show_job(folder: "JobDir", *, as_json: bool) -> None:
    """Print one job: its state, its attempts and its recipe; on Kubernetes the images that its pods ran."""
    from samebits.host.cluster.pod_images import images_of

    job, row = folder.read(), _row(folder)
    names = [run.path.name for run in folder.attempts()]
    images = list(images_of(folder).values())
    if as_json:
        more = {"flags": list(job.flags), "recipe": str(job.recipe.digest)} | ({"pods": images} if job.pods else {})
        print_json({**row, "attempts": names, **more})
        return
    rows = [(job.scheduler, job.number), *((name, row[name]) for name in ("state", "detail"))]
    rows += [("attempt", name) for name in names]
    rows += [("image", pod["image_id"]) for pod in images]
    rows += [("submitted", job.submitted), ("flags", shlex.join(job.flags)), ("recipe", job.recipe.digest)]
    print_table(["job", folder.path.name], [[name, str(value or "")] for name, value in rows])


def _find(name: str, runs: Path | None) -> "JobDir":
    from samebits.host.cluster.job_dir import require_job
    from samebits.host.runs.registry import runs_folder

    return require_job(name, runs_folder(runs))


def _follow(folder: "JobDir", *, as_json: bool) -> int:
    from samebits.core.run_dir import RunDir
    from samebits.host.cli.printing import print_trained
    from samebits.host.cluster.following import follow

    try:
        state = follow(folder)
    except KeyboardInterrupt:
        name = folder.path.name
        log(f"the job continues; `samebits follow {name}` follows it again, `samebits cancel {name}` cancels it")
        return EXIT_INTERRUPTED
    end = folder.read_end()
    if end is not None and end.run is not None:
        print_trained(RunDir(folder.runs / end.run), as_json=as_json)
    return state.status
