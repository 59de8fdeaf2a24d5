"""Runs to be resumed."""

import shutil
from dataclasses import replace
from pathlib import Path

from samebits.core.checkpoint_store import Position
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
