"""Which machine and processes a run belongs to, and whether they can be proved to be gone.

Only a proof lets another process finalize a run's record. A lock that cannot be seen proves nothing: on a network file
system, another machine's locks may be invisible.
"""

import hashlib
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from samebits.core.jsonio import Fields
from samebits.core.ledger import is_alive

ALIVE = "alive"
DEAD = "dead"
HELD = "held"
"""The run's own processes are gone, and one that its script started still holds the ledger open."""
UNKNOWN = "unknown"

_GONE = "gone"
_UNSEEN = "unseen"
_MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "tmpfs", "ramfs", "overlay"})
"""File systems that only one kernel uses at a time: it sees every lock."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunProcess:
    """One process: the kernel's `boot`, the `namespace` of its `pid`, and its `start` in clock ticks of the kernel."""

    boot: str
    namespace: int
    pid: int
    start: int

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return {"boot": self.boot, "namespace": self.namespace, "pid": self.pid, "start": self.start}

    @classmethod
    def from_fields(cls, fields: Fields) -> "RunProcess":
        """Read what `to_dict` wrote."""
        namespace, pid, start = (fields.get(name, int) for name in ("namespace", "pid", "start"))
        return cls(boot=fields.get("boot", str), namespace=namespace, pid=pid, start=start)

    @classmethod
    def this(cls) -> "RunProcess | None":
        """The calling process; None where the kernel does not tell."""
        try:
            started = _status(os.getpid())
            boot, namespace = _boot(), os.stat("/proc/self/ns/pid").st_ino
        except OSError:
            return None
        return None if started is None else cls(boot=boot, namespace=namespace, pid=os.getpid(), start=started[1])

    def state(self, here: "RunProcess") -> str:
        """`alive`, `gone`, or `unseen` from the process `here`."""
        if (self.boot, self.namespace) != (here.boot, here.namespace):
            return _UNSEEN
        found = _status(self.pid)
        # A number may have been given to another process since. A zombie has ended.
        return ALIVE if found is not None and found[1] == self.start and found[0] not in "ZX" else _GONE


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """Where a run was started: `machine` is a digest of the machine's id and name; None where it has no id.

    `training` is the process that runs the script, once it has begun.
    """

    machine: str | None
    launcher: RunProcess
    training: RunProcess | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        training = None if self.training is None else self.training.to_dict()
        return {"machine": self.machine, "launcher": self.launcher.to_dict(), "training": training}

    @classmethod
    def from_fields(cls, fields: Fields) -> "Host":
        """Read what `to_dict` wrote."""
        training = fields.optional_inner("training")
        return cls(
            machine=fields.optional("machine", str),
            launcher=RunProcess.from_fields(fields.inner("launcher")),
            training=None if training is None else RunProcess.from_fields(training),
        )

    @classmethod
    def this(cls) -> "Host | None":
        """With the calling process as the launcher; None where the kernel does not tell."""
        process = RunProcess.this()
        return None if process is None else cls(machine=_machine(), launcher=process)


def liveness(host: Host | None, ledger: Path, *others: Path) -> str:
    """Whether the run of an unfinished record is `alive`, `dead` or `held`, or `unknown` from here.

    Launcher and training hold a lock on the ledger, or on one of `others`.
    """
    here, held = Host.this(), any(map(is_alive, (ledger, *others)))
    # Records before version 1.4 name no process: then the lock alone can prove something.
    if host is None or here is None:
        return ALIVE if held else DEAD if _is_local(ledger) else UNKNOWN
    processes = [process for process in (host.launcher, host.training) if process is not None]
    states = [process.state(here.launcher) for process in processes]
    if ALIVE in states:
        return ALIVE
    if host.launcher.boot != here.launcher.boot:
        # After another boot of the same machine nothing of the run is left.
        rebooted = host.machine is not None and host.machine == here.machine
        return (HELD if held else DEAD) if rebooted else ALIVE if held else UNKNOWN
    if held:
        return HELD if host.training is not None and _UNSEEN not in states else ALIVE
    # Of a process in another container only the lock tells, where this kernel sees all locks.
    return DEAD if states[0] == _GONE or _is_local(ledger) else UNKNOWN


def _status(pid: int) -> tuple[str, int] | None:
    """State and start of a process; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The name, in parentheses, may hold anything.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@cache
def _machine() -> str | None:
    """Names no machine to anyone who does not know its id. The name tells clones of one image apart."""
    for path in _MACHINE_IDS:
        try:
            identity = Path(path).read_text().strip()
        except OSError:
            continue
        if identity:
            return f"sha256:{hashlib.sha256(f'samebits {identity} {platform.node()}'.encode()).hexdigest()}"
    return None


def file_system(path: Path) -> str:
    """The kind of the file system that holds a path, such as ext4; empty where the kernel does not tell."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    inside = os.path.realpath(path)
    kind, longest = "", -1
    for mount in mounts:
        before, _, behind = mount.partition(" - ")
        point = before.split()[4].replace("\\040", " ")
        # The last mount on a folder hides those before it.
        if len(point) >= longest and (inside + "/").startswith(point.rstrip("/") + "/"):
            kind, longest = behind.split()[0], len(point)
    return kind


def _is_local(path: Path) -> bool:
    """Whether a file lies on a file system that no other kernel uses."""
    return file_system(path) in _LOCAL
