"""`python -m samebits.host.cli.node FOLDER`: what a batch script starts on a node; with `--task` a task of an array.

With `--worker` it is one of several workers. In a pod of an Indexed Job, the index says which.
"""

import sys
from pathlib import Path

from samebits.host.cli.parser import guarded


def node_command(*words: str) -> int:
    """Train the job of a folder, or call the task that Slurm names."""
    if words[0] == "--task":
        from samebits.host.cluster.array import run_task

        return run_task(Path(words[1]))
    if words[0] == "--worker":
        from samebits.core.run_dir import RunDir
        from samebits.host.cluster.job_dir import JobDir
        from samebits.host.cluster.node import Node
        from samebits.host.cluster.worker_tasks import run_worker

        return run_worker(JobDir(Path(words[1])), RunDir(Path(words[2])), int(words[3]), Node.here().name)
    from samebits.host.cluster.job_dir import JobDir
    from samebits.host.cluster.node import Node, run_job

    folder, node = JobDir(Path(words[0])), Node.here()
    if node.index:
        from samebits.host.cluster.pod_workers import work_in_pod

        return work_in_pod(folder, node)
    return run_job(folder, node)


if __name__ == "__main__":
    sys.exit(guarded(lambda: node_command(*sys.argv[1:])))
