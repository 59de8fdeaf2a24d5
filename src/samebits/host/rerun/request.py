"""What every command that runs a recorded training again needs to know."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from samebits.host.launch.run_limits import USUAL, RunLimits
from samebits.host.launch.runtime import Runtime
from samebits.host.subprocesses import INHERITED, Streams


@dataclass(frozen=True, kw_only=True, slots=True)
class RerunRequest:
    """`runs` holds the new run; `data` is where the data is now (None: where it was); `streams` get the output.

    `trusted` names the runs whose code may be executed on this host itself, and whose images may be built anyhow.
    `attempts` are the earlier runs of the same job on a cluster. `adapt` says how the runtime starts there; `inside` is
    the container's runtime that was chosen there: no other one is looked for.
    """

    runs: Path
    data: Path | None = None
    offline: bool = False
    trusted: tuple[str, ...] = ()
    streams: Streams = INHERITED
    limits: RunLimits = USUAL
    attempts: tuple[str, ...] = ()
    adapt: Callable[[Runtime], Runtime] = lambda runtime: runtime
    inside: Runtime | None = None
