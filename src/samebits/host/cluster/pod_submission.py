"""What a run needs before Kubernetes gets it: an image that nodes find by digest, volumes, a user who may write."""

import os
import re
import shutil
import stat
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import samebits
from samebits.core.environment import APPTAINER, RunImage
from samebits.core.errors import InputError
from samebits.core.jsonio import readable_json, storage_error, write_atomically
from samebits.core.run_config import RunConfig
from samebits.core.run_setup import PlannedRun
from samebits.host.cluster import kubernetes
from samebits.host.cluster.job_dir import JOBS, Job, JobDir
from samebits.host.cluster.kubernetes import JobName
from samebits.host.cluster.manifest import (
    INDEXED_SINCE,
    Folder,
    PodPlan,
    is_at_least,
    manifest,
    named_in,
    object_name,
    volumes_for,
)
from samebits.host.cluster.pod_job import PodJob
from samebits.host.cluster.pod_settings import PodSettings, read_pod_settings
from samebits.host.cluster.submission import plan_job
from samebits.host.launch.container_plan import CONTAINER_DATA
from samebits.host.launch.train import require_given

PACKAGE = Path(samebits.__file__).parent
_RUNS = Path("/runs")


@dataclass(frozen=True, kw_only=True, slots=True)
class PodSubmission:
    """A run that is planned for a cluster; nothing is written yet."""

    planned: PlannedRun
    job: Job
    namespace: str
    settings: PodSettings

    def text(self, folder: JobDir) -> bytes:
        """The manifest of the job in a folder."""
        return readable_json(manifest(self._plan(folder)))

    def complete(self, folder: JobDir) -> None:
        """Write the manifest and the launcher; hand the folder to the pod's user."""
        try:
            write_atomically(folder.manifest, self.text(folder))
            shutil.copytree(PACKAGE, folder.launcher / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
            _give(folder.path, self.settings.owner())
        except OSError as error:
            raise storage_error(error, folder.path) from error

    def check(self) -> str:
        """Have the server check the manifest; returns it. Raises ToolError with the server's words."""
        text = self.text(JobDir(self.planned.spec.runs.absolute() / JOBS / self.job.id))
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "manifest.json"
            path.write_bytes(text)
            namespace, name = named_in(path)
            context = self.settings.context
            kubernetes.create(path, JobName(context=context, namespace=namespace, name=name), dry_run=True)
        return text.decode()

    def _plan(self, folder: JobDir) -> PodPlan:
        pods, spec = self.job.pod_job, self.job.config
        return PodPlan(
            name=object_name(folder.path.name),
            namespace=self.namespace,
            image=pods.reference,
            job=folder.path.absolute(),
            folders=_folders(folder, spec),
            recipe=str(self.job.recipe.digest),
            server=pods.server,
            home=os.path.expanduser("~"),
            gpus=spec.gpus,
            workers=spec.workers,
            settings=self.settings,
        )


def prepare_pods(spec: RunConfig) -> PodSubmission:
    """Plan a run in a container, and find out what its pod needs. Raises InputError for what a pod cannot have."""
    _check_spec(spec)
    require_given(spec)
    settings = read_pod_settings(spec)
    owner = settings.owner()
    server = kubernetes.server_version(settings.context)
    _check_server(server, spec.workers)
    namespace = settings.namespace or kubernetes.current_namespace(settings.context)
    planned, job = plan_job(replace(spec, runtime="docker"), ())
    if planned.inputs is not None:
        raise InputError("a pod has no files from the network; copy those of inputs.lock into the data, or drop --on")
    image = planned.setup.environment.image
    if image is None:
        raise InputError("the run has no image; drop --runtime")
    # What is not there must not wait in a queue first.
    volumes_for(_folders(JobDir(spec.runs.absolute() / JOBS / job.id), job.config), settings)
    _check_writable(spec.runs, owner)
    pods = PodJob(reference=pinned(image), image=image, server=server, context=settings.context)
    return PodSubmission(planned=planned, job=replace(job, pods=pods), namespace=namespace, settings=settings)


def _check_server(server: str, workers: int) -> None:
    """Raise InputError where an old server would make other pods of several workers than Indexed ones."""
    if workers > 1 and not is_at_least(server, INDEXED_SINCE):
        raise InputError(
            f"several workers need Kubernetes 1.{INDEXED_SINCE} or newer, for an Indexed Job, and this server is"
            f" {server}; drop --workers, or use --on slurm"
        )


def _check_spec(spec: RunConfig) -> None:
    if spec.runtime in {"venv", APPTAINER}:
        raise InputError(f"a pod runs the image; drop --runtime {spec.runtime}")
    if spec.gpus == "all":
        raise InputError("a pod asks for a number of GPUs; give it with --gpus")


def _folders(folder: JobDir, spec: RunConfig) -> tuple[Folder, ...]:
    """What the pod sees: as here, for the launcher, and as in any other container, for the script."""
    runs, job = spec.runs.absolute(), folder.path.absolute()
    # Files of the job that nothing in the pod may change lie in read-only mounts over the writable folder.
    found = [
        Folder(here=runs, inside=runs, writable=True),
        Folder(here=runs, inside=_RUNS, writable=True),
        Folder(here=job / "code", inside=job / "code"),
        Folder(here=job / "launcher", inside=job / "launcher"),
    ]
    if spec.data is not None:
        found += [Folder(here=spec.data, inside=inside) for inside in (spec.data, Path(CONTAINER_DATA))]
    return tuple({folder.inside: folder for folder in found}.values())


def pinned(image: RunImage) -> str:
    """The image's name by digest, with which a node finds the very same; raises InputError where it has none."""
    from samebits.host.docker import Engine

    if re.search(r"@sha256:[0-9a-f]{64}$", image.reference):
        return image.reference
    found = Engine().find_image(image.id)
    digests = () if found is None else found.digests
    if not digests:
        raise InputError(
            f"no registry names the image {image.reference} by digest, so no node can find it; push it, and train with"
            " --image NAME@sha256:…"
        )
    # Without the tag; a colon before a slash is that of a port.
    name = re.sub(r":[^/:]*$", "", image.reference)
    return next((digest for digest in digests if digest.startswith(f"{name}@")), digests[0])


def _check_writable(runs: Path, owner: tuple[int, int]) -> None:
    """Raise InputError where the pod's user may not begin a run in the folder of runs."""
    at = os.stat(runs)
    user, group = owner
    needed = stat.S_IWUSR if at.st_uid == user else stat.S_IWGRP if at.st_gid == group else stat.S_IWOTH
    if not at.st_mode & needed:
        raise InputError(
            f"the pod's user {user}:{group} may not write to {runs}; chown it, or name another with --runs"
        )


def _give(folder: Path, owner: tuple[int, int]) -> None:
    """Make the pod's user the owner of a job's folder; only root can, and only root needs to."""
    if owner[0] == os.getuid():
        return
    if os.getuid() != 0:
        raise InputError(f"only root may submit for the user {owner[0]}; remove `user` from [on.kubernetes]")
    os.chown(folder, *owner)
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(root, name), *owner, follow_symlinks=False)
