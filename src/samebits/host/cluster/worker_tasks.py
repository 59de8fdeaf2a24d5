"""A run whose workers are on several nodes: what every worker's node does, and how Slurm starts the workers.

The chief trains where the batch script runs, the others by `srun`. Those of Kubernetes are in `pod_workers`.
"""

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from samebits.core.connections import short_path
from samebits.core.errors import EngineError, ImageError, InputError, SamebitsError, StorageError
from samebits.core.jsonio import Fields, canonical_json, read_json, storage_error, write_atomically
from samebits.core.recipe import Recipe, differing_parts
from samebits.core.record import INTERRUPTED, read_record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir, WorkerDir
from samebits.core.run_setup import plan_run
from samebits.host.cluster import slurm
from samebits.host.cluster.job_dir import JobDir
from samebits.host.cluster.schedulers import scheduler_of
from samebits.host.launch.runtime import Runtime
from samebits.host.launch.staging import has_staging
from samebits.host.launch.tunnel import through_tunnel
from samebits.host.subprocesses import Streams

CHIEF = 0
POLL_SECONDS = 0.2
SIGN_SECONDS = 20.0
"""Between two signs of a node that prepares."""

REASON_SECONDS = 3.0
"""That the reason of a failed task may take to appear on a shared file system."""


def on_nodes(runtime: Runtime, folder: JobDir, job: str, workers: int) -> Runtime:
    """The runtime of a job with several workers, on the nodes that Slurm gave it; raises InputError."""
    nodes = _spread(slurm.nodes_of(job), workers)

    def run(run_folder: RunDir, spec: RunConfig, streams: Streams) -> int:
        write_hosts(run_folder, [node.address for node in nodes])
        with _reached(runtime, run_folder, CHIEF) as found, _tasks(folder, run_folder, job, nodes):
            return found.run(run_folder, spec, streams)

    return replace(runtime, run=run)


@contextmanager
def _reached(runtime: Runtime, run: RunDir, index: int) -> Iterator[Runtime]:
    """The runtime of a worker, which reaches those on other nodes: in a container through its launcher."""
    if not runtime.isolated:
        yield runtime
        return
    hosts = Fields({"hosts": read_json(run.worker_hosts)}).texts("hosts")
    with through_tunnel(runtime, run, index, hosts[index]) as found:
        yield found


def require_recipe(submitted: Recipe, here: Recipe, node: str) -> None:
    """Raise InputError where a node would train something else: other data, another image, another CPU."""
    if here.digest != submitted.digest:
        parts = ", ".join(differing_parts(submitted, here))
        raise InputError(f"{node} makes another recipe than was submitted: {parts}; nothing was trained")


def _spread(nodes: Sequence[slurm.JobNode], workers: int) -> list[slurm.JobNode]:
    """A node for each worker, in the order of the nodes; the first is the one that the batch script runs on."""
    if not nodes:
        raise InputError("Slurm names no nodes of this job")
    return [nodes[index * len(nodes) // workers] for index in range(workers)]


@contextmanager
def _tasks(folder: JobDir, run: RunDir, job: str, nodes: Sequence[slurm.JobNode]) -> Iterator[None]:
    """Tasks for the workers beside the chief. Each ends when the chief closes its connection."""
    with ExitStack() as stack:
        for index, node in enumerate(nodes):
            if index:
                words = [str(folder.worker_script), str(run.path.resolve()), str(index)]
                failed = partial(_note_loss, seen_inside(run).of_worker(index), node.name)
                stack.enter_context(slurm.task(job, node, words, failed))
        yield


def _note_loss(worker: WorkerDir, node: str, status: int) -> None:
    """A task has failed, maybe before its worker has joined: then nobody else notices."""
    # Where it could say why, that counts. The file comes from another node.
    deadline = time.monotonic() + REASON_SECONDS
    while not worker.failure.exists():
        if time.monotonic() > deadline:
            leave(worker.lost, f"its task on {node} ended with status {status}")
            return
        time.sleep(POLL_SECONDS)


def write_hosts(run: RunDir, addresses: Sequence[str]) -> None:
    """Write where each worker of a run is, for launchers and runners. Raises StorageError."""
    try:
        for seen in dict.fromkeys((run, seen_inside(run))):
            seen.workers.mkdir(exist_ok=True)
            write_atomically(seen.worker_hosts, canonical_json(list(addresses)))
            if seen != run:
                seen.tunnel.mkdir()
    except OSError as error:
        raise storage_error(error, run.workers) from error


def seen_inside(run: RunDir) -> RunDir:
    """The folder that a run's own processes see: that of its container, if it has one."""
    return RunDir(run.staging) if has_staging(run) else run


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPlan:
    """What a node trains as one worker: it makes the submitted recipe."""

    runtime: Runtime
    spec: RunConfig

    @classmethod
    def of(cls, folder: JobDir, node: str) -> "WorkerPlan":
        """Hash code and data on this node; raises InputError where it would train something else."""
        job = folder.read()
        with _on(node):
            runtime = scheduler_of(job).runtime(job)
        planned = plan_run(job.config, replace(runtime.setup, git=job.git))
        require_recipe(job.recipe, planned.recipe, f"the node {node}")
        with _on(node):
            runtime.prepare()
        return cls(runtime=runtime, spec=planned.spec)

    def train(self, run: RunDir, index: int) -> int:
        """Train until the chief ends the run; returns the exit status."""
        with _reached(self.runtime, run, index) as found:
            if found.work is None:
                raise InputError("this runtime trains no worker beside a chief on another node")
            return found.work(run, self.spec, index)


@contextmanager
def _on(node: str) -> Iterator[None]:
    """Name the node that lacks an engine or the image. Raises InputError."""
    try:
        yield
    except (EngineError, ImageError) as error:
        raise InputError(f"the node {node} cannot train: {error}") from error


def run_worker(folder: JobDir, run: RunDir, index: int, node: str) -> int:
    """Train as one worker on this node; what prevents that is left where the chief finds it."""
    try:
        with _heard_of(seen_inside(run).of_worker(index).preparing):
            plan = WorkerPlan.of(folder, node)
        return plan.train(run, index)
    except SamebitsError as error:
        leave(seen_inside(run).of_worker(index).failure, str(error))
        raise


@contextmanager
def _heard_of(path: Path) -> Iterator[None]:
    """Have the chief hear of this node while the body runs: hashing may take longer than the chief waits otherwise."""
    over = threading.Event()

    def report() -> None:
        for number in itertools.count():
            if over.wait(SIGN_SECONDS):
                return
            leave(path, str(number))

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def leave(path: Path, text: str) -> None:
    """Leave a line where the chief looks until all have joined; a run that has ended has no such place."""
    with suppress(OSError, StorageError), short_path(path.parent, path.name) as within:
        write_atomically(Path(within), text.encode("utf-8", "replace"))


def lost_a_worker(run: RunDir) -> bool:
    """Whether a run ended because one of its workers did, or its node: another attempt may resume it."""
    record = read_record(run.record)
    return record.recipe.world_size > 1 and record.outcome.state == INTERRUPTED
