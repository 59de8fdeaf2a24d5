"""The lists of operations that need no proof, and the table of those that have one."""

import re

from conftest import ROOT
from samebits.container.operations import MOVING, ROUNDING_ONCE, computing, read_proven


def test_the_lists_hold_names_of_operations() -> None:
    for name in MOVING | ROUNDING_ONCE:
        assert re.fullmatch(r"[A-Z][A-Za-z]+V?\d?", name), name
    assert not MOVING & ROUNDING_ONCE


def test_what_is_left_is_what_computes() -> None:
    reached = {"MatMul float32", "Reshape float32", "Mul float32", "Mul complex64", "__inference_step_12 float32"}
    assert computing(reached) == ["MatMul float32", "Mul complex64"]


def test_the_table_is_of_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    proven = read_proven()
    for name, version in proven.versions.items():
        assert re.search(rf"^{name}(-cpu)?=={re.escape(version)} ", lock, re.MULTILINE), name
    assert proven.operations == set(computing(proven.operations)), "what needs no proof is not in the table"
    assert len(proven.fingerprint) > 100
