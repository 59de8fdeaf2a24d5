"""What a paper says of a run."""

import json
import re
from dataclasses import replace

import pytest

from samebits.core.errors import InputError
from samebits.core.record import FAILED, Outcome, Record
from samebits.host.report.citation import citation


def test_text(example: Record) -> None:
    found = citation(example, "text")
    for part in (example.recipe.digest, example.result_digest, example.recipe.image.lock, example.recipe.code.tree):
        assert str(part) in found
    assert found.startswith("Software: Python ")
    assert f"Seeds: {example.recipe.seed} for Python" in found
    assert example.id in found


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
