"""The lists of operations that need no proof, and the table of those that have one."""

import re

import pytest

from samebits.runner.determinism import portability as machine
from samebits.runner.determinism.fingerprint import Fingerprint
from samebits.runner.determinism.op_audit import MOVING, ROUNDING_ONCE, ProvenTable, c_library, computing, read_proven
from samebits.runner.determinism.ordered_sums import is_unordered_sum, unordered_sum
from support.command import ROOT


def test_the_lists_hold_names_of_operations() -> None:
    for name in MOVING | ROUNDING_ONCE:
        assert re.fullmatch(r"_?[A-Z][A-Za-z]+V?\d?", name), name
    assert not MOVING & ROUNDING_ONCE


def test_what_is_left_is_what_computes() -> None:
    reached = {"MatMul float32", "Reshape float32", "Mul float32", "Mul complex64", "__inference_step_12 float32"}
    assert computing(reached) == ["MatMul float32", "Mul complex64"]


def test_a_sum_of_three_is_another_operation() -> None:
    """The order of two terms does not matter. That of more depends on timing, and nothing proves it."""
    assert is_unordered_sum("AddN", ["a", "b", "c"])
    assert not is_unordered_sum("AddN", ["a", "b"])
    assert not is_unordered_sum("Pack", ["a", "b", "c"])
    assert computing({"AddN float32", unordered_sum("AddN", "float32")}) == ["AddN(3+) float32"]
    assert not {name for name in read_proven().operations if name.startswith("AddN")}


def test_the_table_is_of_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    proven = read_proven()
    for name, version in proven.versions.items():
        assert re.search(rf"^{name}(-cpu)?=={re.escape(version)} ", lock, re.MULTILINE), name
    assert proven.operations == set(computing(proven.operations)), "what needs no proof is not in the table"
    assert len(proven.fingerprint) > 100


def test_the_c_library_is_this_ones() -> None:
    assert re.fullmatch(r"glibc 2\.\d+", c_library())
    assert "glibc 2.41" in read_proven().libc, "the image's"


@pytest.mark.parametrize(
    ("libc", "digest", "expected"),
    [("glibc 1", "x", []), ("glibc 2", "x", ["numpy.tan"]), ("glibc 2", "y", []), ("glibc 3", "z", [])],
)
def test_what_the_c_library_computes(
    libc: str, digest: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each release by its own line; of one that is not known nothing is said, and the rest still counts."""
    monkeypatch.setattr(machine, "c_library", lambda: libc)
    proven = ProvenTable(
        versions={},
        operations=frozenset(),
        fingerprint={"a": "1", "numpy.tan": "x", "sum": "alone"},
        libc={"glibc 1": {"numpy.tan": "x"}, "glibc 2": {"numpy.tan": "y"}},
        threads={2: {"sum": "of two"}},
    )
    for a, more in (("1", []), ("2", ["a"])):
        for threads, total in ((1, "alone"), (2, "of two")):
            operations = {"a": a, "numpy.tan": digest, "sum": total}
            found = Fingerprint(operations=operations, onednn="", intra_threads=threads, inter_threads=1)
            assert machine.differing(found, proven, threads) == [*more, *expected]
            assert machine.differing(found, proven, 3 - threads) == [*more, *expected, "sum"]
