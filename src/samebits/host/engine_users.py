"""Whose rights a container's users have on the host: an engine may run without root, or map users to others."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

ROOTLESS = "rootless"
REMAPPED = "remapped"
_OPTIONS = {"name=rootless": ROOTLESS, "name=userns": REMAPPED}


@dataclass(frozen=True, slots=True)
class EngineUsers:
    """`namespace` is ROOTLESS where the engine belongs to the user, REMAPPED where it maps users, else None."""

    namespace: str | None = None

    @classmethod
    def of(cls, security_options: Iterable[object] | None) -> "EngineUsers":
        """From what the engine reports about its security, such as `name=seccomp,profile=builtin`."""
        names = [str(option).partition(",")[0] for option in security_options or ()]
        return cls(next((kind for name, kind in _OPTIONS.items() if name in names), None))

    @property
    def options(self) -> dict[str, Any]:
        """What makes the process of a new container the caller, who alone may write into the run's folder."""
        # Root of a rootless engine's containers is the engine's owner; every other user is somebody else on the host.
        if self.namespace == ROOTLESS:
            return {"user": "0:0"}
        # A mapped user may not even look into the folder. The caller without capabilities is no more than the caller.
        return {"userns_mode": "host"} if self.namespace == REMAPPED else {}
