"""What `job.json` holds of a job on Kubernetes beyond what every job has."""

import re
from dataclasses import dataclass
from typing import Any

from samebits.core.environment import RunImage
from samebits.core.errors import RecordError
from samebits.core.jsonio import Fields

NODE_VARIABLE = "SAMEBITS_NODE"
"""Names a pod's node, by its manifest."""

ADDRESS_VARIABLE = "SAMEBITS_ADDRESS"
"""The address of a pod of several workers, by the manifest."""

INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
"""The index of a pod, by the controller of Indexed Jobs."""

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"


@dataclass(frozen=True, kw_only=True, slots=True)
class PodJob:
    """Where the job is: the kubeconfig's `context`, if one was named, and the object's `uid`, once it has one.

    `image` is the submitter's, and `reference` names it by digest, for the nodes. `server` is the cluster's version.
    """

    reference: str
    image: RunImage
    server: str
    context: str | None = None
    uid: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the file holds it."""
        return {
            "reference": self.reference,
            "image": self.image.to_dict(),
            "server": self.server,
            "context": self.context,
            "uid": self.uid,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "PodJob":
        """Read what `to_dict` wrote; raises RecordError."""
        return cls(
            reference=fields.get("reference", str),
            image=RunImage.from_fields(fields.inner("image")),
            server=fields.get("server", str),
            context=None if fields.optional("context", str) is None else fields.parse("context", _no_option),
            uid=fields.optional("uid", str),
        )


def is_label(text: str) -> bool:
    """Whether Kubernetes takes a text as the name of a namespace, a claim or a queue."""
    return re.fullmatch(_LABEL, text) is not None


def pod_job_name(text: str) -> str:
    """A job as NAMESPACE/NAME; raises RecordError for what `kubectl` would take as an option."""
    if re.fullmatch(f"{_LABEL}/{_LABEL}", text) is None:
        raise RecordError(f"{text!r} is no job as NAMESPACE/NAME")
    return text


def _no_option(text: str) -> str:
    if text.startswith("-") or not text.isprintable():
        raise RecordError(f"{text!r} is no context of a kubeconfig")
    return text
