"""A restored state has the digests that the ledger has for its epoch."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from samebits.core.checkpoint_store import Checkpoint, Position
from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.ledger import Ledger
from samebits.runner.checkpoint.ledger_line import confirm_restored, confirm_step

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


def _model(groups: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A phase whose model has these digests; the fast ones begin differently."""
    located = {name: f"fast {value}" for name, value in groups.items()}
    monkeypatch.setattr("samebits.runner.checkpoint.ledger_line.model_variables", lambda _: {})
    monkeypatch.setattr("samebits.runner.checkpoint.ledger_line.group_digests", lambda _: groups)
    monkeypatch.setattr("samebits.runner.checkpoint.ledger_line.located_digests", lambda _: located)
    return SimpleNamespace(fit=1, model=None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"fit": 1, "step": 4, "tensors": {"trainable": "fast a"}}, None),
        ({"fit": 1, "step": 4, "tensors": {"trainable": "a"}, "variables": []}, None),
        ({"fit": 1, "step": 4, "tensors": {"trainable": "fast b"}}, r"for fit 1, epoch 2, step 4 \(trainable\)"),
        ({"fit": 1, "step": 4, "tensors": {"trainable": "b"}, "variables": []}, "other values than the ledger has"),
        ({"fit": 1, "step": 4}, "other values"),
        ({"fit": 0, "step": 4, "tensors": {"trainable": "fast a"}}, "other values"),
        ({"fit": 1, "step": 3, "tensors": {"trainable": "fast b"}}, None),
        ({"loop": 1, "step": 4, "tensors": {"trainable": "fast b"}}, None),
    ],
)
def test_a_restored_step(
    line: dict[str, Any], message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where steps are not traced there is no line: the launcher sees to that."""
    with Ledger(tmp_path / "ledger.jsonl", _RECIPE) as ledger:
        ledger.append({"event": "step", "fit": 1, "epoch": 2, "step": 4, "tensors": {}})
        ledger.append({"event": "epoch", "fit": 1, "epoch": 1})
        ledger.append({"event": "step", "epoch": 2, **line})
    found = replace(_checkpoint(3), position=Position(phase=0, epoch=2, step=5))
    phase = _model({"trainable": "a"}, monkeypatch)
    with Ledger(tmp_path / "ledger.jsonl", _RECIPE) as ledger:
        if message is None:
            confirm_step(ledger, found, phase)
            return
        with pytest.raises(InputError, match=message):
            confirm_step(ledger, found, phase)
