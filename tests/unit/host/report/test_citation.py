"""What a paper says of a run."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.errors import InputError
from samebits.core.record import FAILED, Outcome, Record, write_record
from samebits.core.run_dir import RunDir
from samebits.host.report.citation import citation
from samebits.host.runs.registry import checksum_of
from samebits.host.runs.verdicts import verdicts_on
from samebits.host.runs.verification_file import complete_verification, write_verification


def test_text(example: Record) -> None:
    found = citation(example, "text")
    for part in (example.recipe.digest, example.result_digest, example.recipe.image.lock, example.recipe.code.tree):
        assert str(part) in found
    assert found.startswith("Software: Python ")
    assert f"Seeds: {example.recipe.seed} for Python" in found
    assert example.id in found


def test_the_number_and_its_verdict(example: Record) -> None:
    verdict = "identical at the level bitwise (1 verification)"
    for form in ("text", "cff"):
        found = citation(example, form, ["A. Author"], [verdict])
        assert "Final metrics: accuracy 0.8125, loss 0.70125, val_accuracy 0.875, val_loss 0.4375." in found
        assert f"Verdict: {verdict}." in found
    assert "Verdict" not in citation(example, "text")


def test_only_verdicts_on_this_very_run(example: Record, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "one")
    run.path.mkdir()
    write_record(run.record, example)
    ours = {"id": example.id, "seal": checksum_of(run)}
    for number, verified in enumerate([ours, ours, ours | {"seal": "sha256:" + "0" * 64}]):
        (tmp_path / f"by{number}").mkdir()
        values = complete_verification({"verified": verified, "verdict": "identical", "goal": "bitwise"})
        write_verification(tmp_path / f"by{number}" / "verification.json", values)
    assert verdicts_on(run, tmp_path) == ["identical at the level bitwise (2 verifications)"]
    (tmp_path / "by1" / "verification.json").unlink()
    (tmp_path / "by1" / "verification.json").write_text("{")
    assert verdicts_on(run, tmp_path) == ["identical at the level bitwise (1 verification)"]


def test_latex(example: Record) -> None:
    record = replace(example, id=r"a_b%c\d{e}~^#$&")
    found = citation(record, "latex")
    assert r"a\_b\%c\textbackslash{}d\{e\}\textasciitilde{}\textasciicircum{}\#\$\&" in found
    assert not re.search(r"(?<!\\)[%#&$_]", found)
    assert found.startswith("\\begin{description}\n")


def test_cff(example: Record) -> None:
    lines = dict(line.split(": ", 1) for line in citation(example, "cff", ["A. Author"]).splitlines())
    values = {name: json.loads(value) for name, value in lines.items()}
    assert values.keys() >= {"cff-version", "message", "title", "authors"}, "CFF requires these"
    assert values["authors"] == [{"name": "A. Author"}]
    assert {"type": "other", "value": str(example.result_digest), "description": "result digest"} in values[
        "identifiers"
    ]
    with pytest.raises(InputError, match="add --author"):
        citation(example, "cff")


def test_no_result(example: Record) -> None:
    with pytest.raises(InputError, match="has no result to cite"):
        citation(replace(example, outcome=Outcome(state=FAILED), result=None), "text")


def test_one_line_for_each_fact(example: Record) -> None:
    code = replace(example.recipe.code, arguments=("a\nb\x1b[2J",))
    found = citation(replace(example, recipe=replace(example.recipe, code=code)), "text")
    assert r"arguments a\nb\x1b[2J" in found
