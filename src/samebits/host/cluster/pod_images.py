"""Which image each pod of a job ran: what the cluster reports is kept in the job's folder, and compared."""

import re

from samebits.core.jsonio import Fields, read_json, readable_json, reading, write_atomically
from samebits.host.cluster.job_dir import Job, JobDir
from samebits.host.cluster.kubernetes import Pod

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def note_images(folder: JobDir, pods: list[Pod]) -> None:
    """Keep what is known of each pod: a cluster forgets pods."""
    known = images_of(folder)
    found = {pod.uid: {"pod": pod.name, "node": pod.node, "image_id": pod.image_id} for pod in pods if pod.image_id}
    if any(known.get(uid) != value for uid, value in found.items()):
        write_atomically(folder.pods, readable_json({**known, **found}))


def images_of(folder: JobDir) -> dict[str, dict[str, str]]:
    """Name, node and image of each pod that was seen, by its uid. Raises RecordError."""
    if not folder.pods.exists():
        return {}
    value = read_json(folder.pods)
    with reading(folder.pods):
        fields = Fields(value)
        return {uid: fields.mapping(uid, str) for uid in fields.names()}


def wrong_image(folder: JobDir, job: Job) -> str | None:
    """One line about a pod that ran another image than was submitted; None where there is none."""
    pods, config = job.pod_job, job.recipe.image.config
    wanted = {*_DIGEST.findall(pods.reference), pods.image.id, *(() if config is None else (str(config),))}
    for pod in images_of(folder).values():
        # Runtimes name the image by its manifest, or by its configuration.
        if not wanted.intersection(_DIGEST.findall(pod["image_id"])):
            return f"the pod {pod['pod']} ran {pod['image_id']}, not {pods.reference}; do not rely on its run"
    return None
