"""Holds a restored state against the ledger's line of its epoch, or of its step where steps are traced.

A checkpoint's own digests prove that its files fit together, not that the training wrote them.
"""

from collections.abc import Mapping
from typing import Any

from samebits.core.checkpoint_store import Checkpoint
from samebits.core.errors import InputError
from samebits.core.ledger import Ledger, last_steps, line_place, parse_line
from samebits.runner.checkpoint.fit_phase import FitPhase
from samebits.runner.digests.tensors import group_digests, located_digests, model_variables


def confirm_fit(ledger: Ledger, checkpoint: Checkpoint, phase: FitPhase) -> None:
    """Raise InputError unless a model that was restored has the digests of its epoch's line."""
    place = {"event": "epoch", "fit": phase.fit, "epoch": checkpoint.position.epoch - 1}
    confirm_restored(ledger, checkpoint, place, group_digests(model_variables(phase.model)))


def confirm_step(ledger: Ledger, checkpoint: Checkpoint, phase: FitPhase) -> None:
    """Raise InputError where the ledger has a line for a step with other digests than the restored model.

    Without a trace it has none. Then the launcher chooses such a checkpoint of the user's own runs only.
    """
    epoch, step = checkpoint.position.epoch, (checkpoint.position.step or 0) - 1
    place = {"event": "step", "epoch": epoch, "step": step}
    for values in last_steps(ledger.recorded_before(checkpoint.lines)):
        if place.items() <= values.items():
            digests = group_digests if "variables" in values else located_digests
            _compare(values, place | {"fit": phase.fit}, digests(model_variables(phase.model)))
            return


def confirm_restored(
    ledger: Ledger, checkpoint: Checkpoint, place: Mapping[str, object], groups: Mapping[str, str]
) -> None:
    """Raise InputError unless the ledger's last line for a place has these digests of groups of variables."""
    lines = map(parse_line, ledger.recorded_before(checkpoint.lines))
    found = next((values for values in lines if place.items() <= values.items()), None)
    if found is None:
        raise InputError(f"the checkpoint belongs to no line of the ledger ({line_place(place)}); train again")
    _compare(found, place, groups)


def _compare(found: Mapping[str, Any], place: Mapping[str, object], groups: Mapping[str, str]) -> None:
    """Raise InputError unless a line is of this place and has these digests."""
    recorded = found.get("tensors")
    if not place.items() <= found.items() or recorded != groups:
        recorded = recorded if isinstance(recorded, dict) else {}
        differing = sorted(name for name in {*recorded, *groups} if recorded.get(name) != groups.get(name))
        raise InputError(
            f"the checkpoint holds other values than the ledger has for {line_place(place)} ({', '.join(differing)});"
            " it was changed after it was written: train again"
        )
