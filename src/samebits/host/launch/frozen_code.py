"""The code of runs that begin later, as it was when they were planned: it may be edited meanwhile."""

from dataclasses import replace
from pathlib import Path

from samebits.core.code_tree import copy_tree
from samebits.core.run_setup import PlannedRun


def freeze_code(planned: PlannedRun, folder: Path) -> None:
    """Copy the code of a planned run to a new folder; raises OSError."""
    copy_tree(planned.spec.code_folder, folder, planned.code, planned.converted)


def from_frozen(planned: PlannedRun, folder: Path) -> PlannedRun:
    """The run, started from such a copy, in which a notebook is a script already."""
    layout = replace(planned.spec.code, folder=folder.absolute())
    spec = replace(planned.spec, script=layout.folder / layout.entry, layout=layout)
    return replace(planned, spec=spec, converted={})
