"""What a project and the user say about pods: `[on.kubernetes]` in `samebits.toml` and in the user's own file.

A project may come from someone else. It names a namespace, a queue, claims and resources. What reaches the machine
itself, and whose name the pod runs under, only the user says.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import Fields
from samebits.core.project import CONFIG_NAME
from samebits.core.run_config import RunConfig
from samebits.core.user_config import config_path, read_options
from samebits.host.cluster.pod_job import is_label

NODE_LABELS = (
    *("kubernetes.io/arch", "kubernetes.io/hostname", "node.kubernetes.io/instance-type"),
    *("topology.kubernetes.io/region", "topology.kubernetes.io/zone"),
)
"""Labels of nodes that a project may ask for."""

_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGTPE]i?|Ki)?")
_OF_THE_USER = ("context", "host-paths", "pull-secret", "user")


@dataclass(frozen=True, kw_only=True, slots=True)
class PodSettings:
    """`claims` are volume claims by the folder here that they hold; `host_paths` are folders that every node has.

    `user` is UID:GID, which owns what the pod writes.
    """

    namespace: str | None = None
    queue: str | None = None
    cpu: str | None = None
    memory: str | None = None
    node_labels: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[Path, str] = field(default_factory=dict)
    host_paths: tuple[Path, ...] = ()
    context: str | None = None
    pull_secret: str | None = None
    user: str | None = None

    def owner(self) -> tuple[int, int]:
        """The user and group of the pod; raises InputError for root, as which no pod may run."""
        user, group = (int(part) for part in (self.user or f"{os.getuid()}:{os.getgid()}").split(":"))
        if user == 0:
            raise InputError(
                f'pods do not run as root; put user = "UID:GID" under [on.kubernetes] into {config_path()}'
            )
        return user, group


def read_pod_settings(spec: RunConfig) -> PodSettings:
    """The project's settings, and the user's own over them. Raises InputError, which names the file."""
    found = read_options(spec.code_folder / CONFIG_NAME, lambda values, folder: _table(values, folder, users=False))
    own = read_options(
        config_path(),
        lambda values, folder: _table(values, folder, users=True),
        absent=(FileNotFoundError, NotADirectoryError),
        anywhere=True,
    )
    claims = {**found.pop("claims", {}), **own.pop("claims", {})}
    return PodSettings(**{**found, **own}, claims=claims)


def _table(values: Fields, folder: Path, *, users: bool) -> dict[str, Any]:
    on = values.optional_inner("on")
    table = None if on is None else on.optional_inner("kubernetes")
    found: dict[str, Any] = {}
    for name in sorted(table.given()) if table is not None else ():
        if name in _OF_THE_USER and not users:
            raise RecordError(f"'on.kubernetes.{name}' is not for a project to choose; put it into {config_path()}")
        if name not in _READERS:
            raise RecordError(f"unknown key 'on.kubernetes.{name}'; there are {', '.join(sorted(_READERS))}")
        attribute, read = _READERS[name]
        found[attribute] = read(table, name, folder)  # type: ignore[arg-type]  # there is a table, or no name
    return found


def _label(table: Fields, name: str, _: Path) -> str:
    text = table.get(name, str)
    if not is_label(text):
        raise RecordError(f"'on.kubernetes.{name}' is no name in Kubernetes: {text!r}")
    return text


def _text(table: Fields, name: str, _: Path) -> str:
    text = table.get(name, str)
    if text.startswith("-") or not text.isprintable() or not text:
        raise RecordError(f"'on.kubernetes.{name}' is no name: {text!r}")
    return text


def _quantity(table: Fields, name: str, _: Path) -> str:
    text = str(table.rest().get(name))
    if _QUANTITY.fullmatch(text) is None:
        raise RecordError(f"'on.kubernetes.{name}' must be a quantity such as 4, 500m or 8Gi, not {text!r}")
    return text


def _user(table: Fields, name: str, _: Path) -> str:
    text = table.get(name, str)
    if re.fullmatch(r"[0-9]{1,9}:[0-9]{1,9}", text) is None:
        raise RecordError(f"'on.kubernetes.{name}' must be UID:GID, not {text!r}")
    return text


def _labels_of_nodes(table: Fields, name: str, _: Path) -> dict[str, str]:
    found = table.mapping(name, str)
    for label, value in found.items():
        if label not in NODE_LABELS:
            raise RecordError(f"'on.kubernetes.{name}' may ask for {', '.join(NODE_LABELS)}, not for {label!r}")
        if re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value) is None:
            raise RecordError(f"'on.kubernetes.{name}.{label}' is no value of a label: {value!r}")
    return found


def _claims(table: Fields, name: str, folder: Path) -> dict[Path, str]:
    found = table.mapping(name, str)
    for claim in found.values():
        if not is_label(claim):
            raise RecordError(f"'on.kubernetes.{name}' names no claim: {claim!r}")
    return {_here(path, folder): claim for path, claim in found.items()}


def _paths(table: Fields, name: str, folder: Path) -> tuple[Path, ...]:
    return tuple(_here(path, folder) for path in table.texts(name))


def _here(path: str, folder: Path) -> Path:
    return Path(os.path.realpath(folder / Path(path).expanduser()))


_READERS: dict[str, tuple[str, Callable[[Fields, str, Path], Any]]] = {
    "claims": ("claims", _claims),
    "context": ("context", _text),
    "cpu": ("cpu", _quantity),
    "host-paths": ("host_paths", _paths),
    "memory": ("memory", _quantity),
    "namespace": ("namespace", _label),
    "node-selector": ("node_labels", _labels_of_nodes),
    "pull-secret": ("pull_secret", _label),
    "queue": ("queue", _label),
    "user": ("user", _user),
}
