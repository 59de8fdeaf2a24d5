"""Runs to be resumed."""

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from samebits.core.checkpoint_store import Checkpoint, Position
from samebits.core.record import RUNNING, Outcome, write_record
from samebits.core.run_dir import RunDir
from samebits.core.timings import Timings
from samebits.host.run_folders import note_run


def as_if_killed_after(run: RunDir, position: Position, runs: Path) -> RunDir:
    """A copy of a finished run, as if it was killed after a checkpoint; its ledger may have more lines than that."""
    copy = RunDir(runs / run.path.name)
    shutil.copytree(run.path, copy.path)
    for later in copy.checkpoints.positions():
        if later.order > position.order:
            copy.checkpoints.path(later).unlink()
    record = run.read()
    copy.record.unlink()
    write_record(
        copy.record, replace(record, outcome=Outcome(state=RUNNING), result=None, ledger=None, timings=Timings())
    )
    # As if it had been begun there, too.
    note_run(copy)
    return copy


def with_other_weights(run: RunDir, position: Position) -> None:
    """Change one weight that a checkpoint holds, and give it the checksum of that."""
    found = run.checkpoints.read(position)
    values = json.loads(json.dumps(found.to_dict()["state"]))
    _change_first(values["objects"])
    run.checkpoints.path(position).unlink()
    run.checkpoints.write(Checkpoint(**{name: getattr(found, name) for name in _COPIED}, state=values), {})


_COPIED = ("position", "recipe", "lines", "last", "objects")


def _change_first(value: Any) -> bool:
    """Change the first matrix of numbers in captured state."""
    if isinstance(value, dict) and len(value.get("shape", ())) > 1 and "in" in value:
        content = bytearray(base64.b64decode(value["in"]))
        content[2] ^= 1
        value["in"] = base64.b64encode(content).decode()
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_change_first, inner))
