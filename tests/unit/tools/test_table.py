"""The table of a GPU's fingerprint, and the proofs that give none."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.gpu_kit import table

_KEY = {"model": "NVIDIA H100 80GB HBM3", "multiprocessors": 132, "driver": "580.159.04"}


def _proof(*, dry_run: bool = False, outcome: str = "done", **found: Any) -> dict[str, Any]:
    usual = {"equal": True, "key": _KEY, "operations": {"tf.exp": "0" * 16}, "differ_in_one_process": []}
    step = {"outcome": outcome, "found": usual | found}
    return {"dry_run": dry_run, "started": "2026-11-27T16:00:00Z", "steps": {"fingerprint": step}}


def _main(tmp_path: Path, proof: object) -> int:
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    return table.main([str(tmp_path / "proof.json"), "--into", str(tmp_path / "tables")])


def test_a_table(tmp_path: Path) -> None:
    assert _main(tmp_path, _proof()) == 0
    (path,) = (tmp_path / "tables").iterdir()
    assert path.name == "nvidia-h100-80gb-hbm3-132-580.159.04.json"
    assert json.loads(path.read_text())["operations"] == {"tf.exp": "0" * 16}


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        (_proof(dry_run=True), "it is a dry run, on the CPU"),
        (_proof(equal=False), "the fingerprint did not repeat"),
        (_proof(differ_in_one_process=["tf.exp"]), "the fingerprint did not repeat"),
        (_proof(outcome="failed"), "the fingerprint did not repeat"),
        ({"steps": {}}, "'fingerprint'"),
        ([], "list indices"),
    ],
)
def test_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str], proof: object, reason: str) -> None:
    assert _main(tmp_path, proof) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "tables").exists()
