"""A real Slurm of three nodes on this machine, see `tests/command/conftest.py`."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from samebits.host.cluster.job_dir import JobDir


@dataclass(frozen=True)
class Cluster:
    """Slurm's commands, and where its daemons keep their files."""

    state: Path

    def __call__(self, *words: str) -> str:
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def recorded(job: JobDir, index: int = -1) -> tuple[str | None, str | None]:
    """What ran an attempt."""
    environment = job.attempts()[index].read().environment
    return environment.runtime, None if environment.engine is None else environment.engine.name
