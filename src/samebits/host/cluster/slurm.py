"""The only module that talks to Slurm: submit a script, ask how a job stands, requeue and cancel it."""

import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from samebits.core.errors import ToolError
from samebits.core.jsonio import parse_digits
from samebits.host.subprocesses import beside, run_tool

PENDING = "PENDING"
RUNNING = "RUNNING"
CANCELLED = "CANCELLED"
_LIMIT = 60.0  # seconds; a controller that is down lets commands wait
_END_SECONDS = 20.0  # that a task gets to end by itself
_UNKNOWN = "Invalid job id"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStatus:
    """A job that Slurm knows: its state in Slurm's words, the reason or exit code, and the node, if it has one."""

    state: str
    reason: str = ""
    node: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobNode:
    """A node of a job, and the address by which other nodes reach it."""

    name: str
    address: str


def nodes_of(job: str) -> list[JobNode]:
    """The nodes of a running job, the batch script's first."""
    found = _query(["squeue", "--noheader", f"--jobs={job}", "--states=RUNNING", "--format=%N"], "asking for the nodes")
    if not found or not found.strip():
        return []
    words = ["scontrol", "show", "hostnames", found.strip()]
    names = run_tool(words, what="asking for the names of the nodes", limit=_LIMIT).split()
    return [JobNode(name=name, address=_address(name)) for name in names]


def _address(name: str) -> str:
    output = run_tool(["scontrol", "--oneliner", "show", "node", name], what="asking for a node", limit=_LIMIT)
    return dict(re.findall(r"(\w+)=(\S*)", output)).get("NodeAddr") or name


def task(
    job: str, node: JobNode, words: Sequence[str], failed: Callable[[int], object] = lambda _: None
) -> AbstractContextManager[None]:
    """A task of a running job on one of its nodes, beside the body; what it prints comes to this process's output.

    `failed` is called with its exit status where that is not 0.
    """
    step = ["srun", f"--jobid={job}", "--nodes=1", "--ntasks=1", f"--nodelist={node.name}", "--overlap", "--mem=0"]
    return beside([*step, "--export=NIL", "--input=none", *words], _END_SECONDS, failed)


def submit(script: Path, flags: Sequence[str]) -> str:
    """Submit a batch script; returns the job's id. Raises ToolError with one line."""
    return _sbatch([*flags, str(script)], "submitting the job").strip().partition(";")[0]


def check(script: Path, flags: Sequence[str]) -> None:
    """Ask whether Slurm would take a batch script now; nothing is submitted. Raises ToolError with one line."""
    _sbatch(["--test-only", *flags, str(script)], "asking about the job")


def is_installed() -> bool:
    """Whether jobs can be submitted from this machine."""
    return shutil.which("sbatch") is not None


def _sbatch(words: Sequence[str], what: str) -> str:
    # On the command line, as the submitter's SBATCH_EXPORT would win over the script.
    try:
        return run_tool(["sbatch", "--parsable", "--export=NIL", *words], what=what, limit=_LIMIT)
    except ToolError as error:
        raise ToolError(_refusal(error), error.output) from error


def _refusal(error: ToolError) -> str:
    """Why Slurm does not take a job, without the frame that sbatch puts around it."""
    if not is_installed():
        return "Slurm is not installed here: there is no sbatch; submit from a machine of the cluster"
    lines = [line.removeprefix("sbatch: ").strip() for line in error.output.splitlines()]
    # Warnings and hints to the manual explain nothing.
    errors = [line for line in lines if line.startswith("error: ")] or lines[:1]
    reasons = [line.removeprefix("error: ").removeprefix("Batch job submission failed: ") for line in errors]
    if not reasons:
        return str(error)
    if any("controller" in reason for reason in reasons):
        return f"Slurm does not answer: {reasons[-1]}; try again later, or ask the site"
    return f"Slurm refuses the job: {reasons[0]}; change --sbatch, or [on.slurm] in samebits.toml"


def active(job: str) -> JobStatus | None:
    """The status of a job that waits or runs; None for one that has ended, or that Slurm no longer knows."""
    words = ["squeue", "--noheader", f"--jobs={job}", "--format=%T|%r|%N"]
    output = _query(words, "asking for the job")
    return _status(*output.strip().splitlines()[0].split("|")) if output and output.strip() else None


def ended(job: str) -> JobStatus | None:
    """How a job ended, with its exit code as the reason; None for one that Slurm no longer knows."""
    values = _values(job)
    return JobStatus(state=values.get("JobState", ""), reason=values.get("ExitCode", "")) if values else None


def restarts(job: str) -> int | None:
    """How often Slurm has started a job again; None for one that it no longer knows."""
    return parse_digits(_values(job).get("Restarts", ""))


def _values(job: str) -> dict[str, str]:
    """What Slurm knows of a job; nothing where it no longer knows it."""
    output = _query(["scontrol", "--oneliner", "show", "job", job], "asking for the job")
    return dict(re.findall(r"(\w+)=(\S*)", output or ""))


def requeue(job: str) -> None:
    """Have Slurm start a running job again, later."""
    run_tool(["scontrol", "requeue", job], what="requeueing the job", limit=_LIMIT)


def cancel(job: str) -> None:
    """Cancel a job that waits or runs."""
    run_tool(["scancel", job], what="cancelling the job", limit=_LIMIT)


def _query(words: Sequence[str], what: str) -> str | None:
    """The output of a command about one job; None where Slurm does not know the job."""
    try:
        return run_tool(words, what=what, limit=_LIMIT)
    except ToolError as error:
        if _UNKNOWN in str(error):
            return None
        raise


def _status(state: str, reason: str = "", node: str = "", *_: str) -> JobStatus:
    return JobStatus(state=state, reason="" if reason == "None" else reason, node=node)
