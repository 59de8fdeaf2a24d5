"""A run whose workers are on several nodes: what every worker's node does, and how Slurm starts the workers.

The chief trains where the batch script runs, the others by `srun`. Those of Kubernetes are in `pod_workers`.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from samebits.core.errors import InputError, SamebitsError, StorageError
from samebits.core.jsonio import canonical_json, storage_error, write_atomically
from samebits.core.recipe import Recipe, differing_parts
from samebits.core.record import INTERRUPTED, read_record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import plan_run
from samebits.host.cluster import slurm
from samebits.host.cluster.job_dir import JobDir
from samebits.host.cluster.schedulers import scheduler_of
from samebits.host.launch.runtime import Runtime
from samebits.host.subprocesses import Streams


def on_nodes(runtime: Runtime, folder: JobDir, job: str, workers: int) -> Runtime:
    """The runtime of a job with several workers, on the nodes that Slurm gave it; raises InputError."""
    check_reachable(runtime, workers)
    nodes = _spread(slurm.nodes_of(job), workers)

    def run(run_folder: RunDir, spec: RunConfig, streams: Streams) -> int:
        with _tasks(folder, run_folder, job, nodes):
            return runtime.run(run_folder, spec, streams)

    return replace(runtime, run=run)


def check_reachable(runtime: Runtime, workers: int) -> None:
    """Raise InputError where several workers would be in containers, which have no network to reach each other."""
    if workers > 1 and runtime.isolated:
        raise InputError("several workers on Slurm need --runtime venv, as containers have no network; add it")


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
    write_hosts(run, [node.address for node in nodes])
    with ExitStack() as stack:
        for index, node in enumerate(nodes):
            if index:
                words = [str(folder.worker_script), str(run.path.resolve()), str(index)]
                stack.enter_context(slurm.task(job, node, words))
        yield


def write_hosts(run: RunDir, addresses: Sequence[str]) -> None:
    """Write where each worker of a run is, for the runner. Raises StorageError."""
    try:
        run.workers.mkdir(exist_ok=True)
        write_atomically(run.worker_hosts, canonical_json(list(addresses)))
    except OSError as error:
        raise storage_error(error, run.workers) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPlan:
    """What a node trains as one worker: it makes the submitted recipe."""

    runtime: Runtime
    spec: RunConfig

    @classmethod
    def of(cls, folder: JobDir, node: str) -> "WorkerPlan":
        """Hash code and data on this node; raises InputError where it would train something else."""
        job = folder.read()
        runtime = scheduler_of(job).runtime(job)
        planned = plan_run(job.config, replace(runtime.setup, git=job.git))
        require_recipe(job.recipe, planned.recipe, f"the node {node}")
        runtime.prepare()
        return cls(runtime=runtime, spec=planned.spec)

    def train(self, run: RunDir, index: int) -> int:
        """Train until the chief ends the run; returns the exit status."""
        if self.runtime.work is None:
            raise InputError("this runtime trains no worker beside a chief on another node")
        return self.runtime.work(run, self.spec, index)


def run_worker(folder: JobDir, run: RunDir, index: int, node: str) -> int:
    """Train as one worker on this node; what prevents that is left where the chief finds it."""
    try:
        return WorkerPlan.of(folder, node).train(run, index)
    except SamebitsError as error:
        _leave(run.of_worker(index).failure, str(error))
        raise


def _leave(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode("utf-8", "replace"))
    except (OSError, StorageError):
        return


def lost_a_worker(run: RunDir) -> bool:
    """Whether a run ended because one of its workers did, or its node: another attempt may resume it."""
    record = read_record(run.record)
    return record.recipe.world_size > 1 and record.outcome.state == INTERRUPTED
