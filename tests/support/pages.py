"""Runs for the tests of pages: with curves, and with attacks in their texts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from samebits.core.file_tree import hash_tree
from samebits.core.ledger import Ledger
from samebits.core.record import LedgerEnd, Outcome, Record, write_record
from samebits.core.run_dir import RunDir
from support.records import with_result

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>\x1b[31m\u202eevil"


def make(folder: Path, record: Record, metrics: Sequence[Mapping[str, str]], *, code: str = "print(1)\n") -> RunDir:
    """A run with code and one epoch for each set of metrics."""
    run = RunDir(folder)
    run.code.mkdir(parents=True)
    (run.code / "train.py").write_text(code)
    tree = hash_tree(run.code, "code")
    tree.write(run.code_manifest)
    hash_tree(run.code, "data").write(run.data_manifest)
    recipe = replace(record.recipe, code=replace(record.recipe.code, tree=tree.digest), data=tree.digest)
    record = with_result(replace(record, recipe=recipe), lambda result: result.update(fits=fits_of(metrics)))
    with Ledger(run.ledger, record.recipe.digest) as ledger:
        for epoch, values in enumerate(metrics):
            ledger.append({"event": "epoch", "fit": 0, "epoch": epoch, "metrics": values})
        models = [model.digest for model in record.result.models] if record.result else []
        ledger.append({"event": "end", "models": models})
        end = LedgerEnd(lines=ledger.lines, last=str(ledger.last))
    write_record(run.record, replace(record, ledger=end))
    return run


def fits_of(metrics: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """The fit that a record holds for these epochs."""
    history = {name: [values[name] for values in metrics] for name in (metrics[0] if metrics else ())}
    return [{"model": 0, "epochs": len(metrics), "history": history}] if metrics else []


def losses(*values: float) -> list[Mapping[str, str]]:
    return [{"loss": value.hex(), "val_loss": (2 * value).hex()} for value in values]


def hostile(record: Record) -> Record:
    """The record with an attack in every text that a script chooses."""

    def edit(result: dict[str, Any]) -> None:
        result["models"][0]["name"] = HOSTILE
        result["outputs"] = [{"path": HOSTILE, "by": HOSTILE, "digest": HOSTILE}]

    code = replace(record.recipe.code, arguments=(HOSTILE,))
    outcome = Outcome(state="failed", message=HOSTILE)
    recipe = replace(record.recipe, code=code)
    return replace(with_result(record, edit), id=HOSTILE, recipe=recipe, outcome=outcome)
