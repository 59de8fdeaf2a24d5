"""The list of mutations fits the code, and the tool tells a survivor from a list that no longer fits."""

import importlib.util
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.command import ROOT


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "tools" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


TOOL = _tool()
MUTANTS = TOOL.read_mutants()


def test_there_are_enough() -> None:
    assert len(MUTANTS) >= 100
    assert {mutant.lane for mutant in MUTANTS} == set(TOOL.LANES)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_fits_the_code(mutant: Any) -> None:
    """Its fragment is one of one line, there once; and the tests that must catch it are in the lane that it names."""
    assert mutant.outdated(ROOT) == ""
    assert "\n" not in mutant.old + mutant.new
    assert mutant.old != mutant.new
    path, _, test = shlex.split(mutant.tests)[0].partition("::")
    assert not test or f"def {test}(" in (ROOT / path).read_text(), f"{mutant.tests}: update tests/mutants.toml"
    assert mutant.lane == "test" or path.startswith("tests/unit/")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = 1\n", ""),
        ("b = 1\n", "the fragment is no longer there: update tests/mutants.toml (x.py: a = 1)"),
        ("a = 1\na = 1\n", "the fragment occurs 2 times: make it longer (x.py: a = 1)"),
        (None, "x.py is no longer there: update tests/mutants.toml"),
    ],
)
def test_a_fragment_that_is_gone(text: str | None, why: str, tmp_path: Path) -> None:
    mutant = replace(MUTANTS[0], file="x.py", old="a = 1", new="a = 2")
    if text is not None:
        (tmp_path / "x.py").write_text(text)
    assert mutant.outdated(tmp_path) == why
    if not why:
        mutant.apply(tmp_path)
        assert (tmp_path / "x.py").read_text() == "a = 2\n"


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (["caught", "caught"], 0, "2 caught, 0 survived, 0 outdated"),
        (["caught", "survived"], 1, "1 caught, 1 survived, 0 outdated"),
        (["survived", "outdated"], 2, "0 caught, 1 survived, 1 outdated"),
    ],
)
def test_the_sums(words: list[str], status: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    tried = [(mutant, TOOL.Trial(word=word)) for mutant, word in zip(MUTANTS, words, strict=False)]
    assert TOOL.report(tried) == status
    assert capsys.readouterr().out.splitlines()[-1] == line


@pytest.mark.parametrize(
    ("status", "output", "word"),
    [
        (0, "3 passed", "survived"),
        (0, "3 skipped", "outdated"),
        (1, "FAILED a", "caught"),
        (4, "no such file", "outdated"),
        (5, "no tests ran", "outdated"),
        (-9, "", "outdated"),
    ],
)
def test_what_pytest_answers(status: int, output: str, word: str) -> None:
    assert TOOL._trial(status, output, 1.0).word == word
