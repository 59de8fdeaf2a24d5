"""A restored state has the digests that the ledger has for its epoch."""

from pathlib import Path

import pytest

from samebits.core.checkpoint_store import Checkpoint, Position
from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.ledger import Ledger
from samebits.runner.checkpoint.ledger_line import confirm_restored

_RECIPE = Digest.of_bytes(b"recipe")


def _ledger(path: Path) -> Ledger:
    """Two epochs of two fits, and what else stands there."""
    with Ledger(path, _RECIPE) as ledger:
        for fit in range(2):
            for epoch in range(2):
                ledger.append(
                    {"event": "epoch", "fit": fit, "epoch": epoch, "tensors": {"trainable": f"{fit}.{epoch}"}}
                )
                ledger.append({"event": "step", "fit": fit, "epoch": epoch})
    return Ledger(path, _RECIPE)


def _checkpoint(lines: int) -> Checkpoint:
    return Checkpoint(position=Position(phase=0, epoch=2), recipe=_RECIPE, lines=lines, last=_RECIPE, state={})


@pytest.mark.parametrize(
    ("lines", "fit", "values", "message"),
    [
        (4, 0, "0.1", None),
        (8, 1, "1.1", None),
        (4, 0, "0.0", r"other values than the ledger has for fit 0, epoch 1 \(trainable\)"),
        (4, 1, "1.1", r"belongs to no line of the ledger \(fit 1, epoch 1\)"),
        (0, 0, "0.1", "belongs to no line"),
    ],
)
def test_a_restored_epoch(lines: int, fit: int, values: str, message: str | None, tmp_path: Path) -> None:
    place = {"event": "epoch", "fit": fit, "epoch": 1}
    with _ledger(tmp_path / "ledger.jsonl") as ledger:
        if message is None:
            confirm_restored(ledger, _checkpoint(lines), place, {"trainable": values})
            return
        with pytest.raises(InputError, match=message):
            confirm_restored(ledger, _checkpoint(lines), place, {"trainable": values})


def test_a_group_that_is_missing(tmp_path: Path) -> None:
    place = {"event": "epoch", "fit": 0, "epoch": 0}
    groups = {"trainable": "0.0", "optimizer": "x"}
    with _ledger(tmp_path / "ledger.jsonl") as ledger, pytest.raises(InputError, match=r"\(optimizer\)"):
        confirm_restored(ledger, _checkpoint(2), place, groups)
