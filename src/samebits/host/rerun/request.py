"""What every command that runs a recorded training again needs to know."""

from dataclasses import dataclass
from pathlib import Path

from samebits.host.subprocesses import INHERITED, Streams


@dataclass(frozen=True, kw_only=True, slots=True)
class RerunRequest:
    """`runs` holds the new run; `data` is where the data is now (None: where it was); `streams` get the output."""

    runs: Path
    data: Path | None = None
    offline: bool = False
    streams: Streams = INHERITED
