"""The style of pages, help and messages: short sentences, standard words. The style is in `tools/prose.toml`."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from support.command import ROOT

PROSE = runpy.run_path(str(ROOT / "tools" / "prose.py"))
STYLE: Any = PROSE["Style"].read()


def faults(text: str) -> list[str]:
    return list(STYLE.faults(text))


def found(path: Path, text: str) -> list[tuple[int, str]]:
    path.write_text(text, encoding="utf-8")
    return [(line, " ".join(block.split())) for line, block in PROSE["blocks"](path) if block.strip()]


def test_nothing_is_wrong_in_pages_help_and_messages() -> None:
    assert PROSE["check"](PROSE["default_files"](), STYLE) == []


def test_what_is_checked() -> None:
    names = {str(path.relative_to(ROOT)) for path in PROSE["default_files"]()}
    assert {"README.md", "docs/tutorial.md", "docs/rules/SB101.md", "src/samebits/host/cli/commands.py"} <= names
    assert "src/samebits/host/report/templates/run.html.j2" in names


def test_length() -> None:
    assert faults("word " * 25) == []
    assert faults("First. " + "word " * 26)[0].startswith("26 words: word")
    assert faults("word " * 20 + "with: " + "word " * 20) == []
    assert faults("`" + "word " * 26 + "`") == []


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("The record is sealed.", "'sealed' (finalized, or checksum)"),
        ("It is said at the end.", "'is said'"),
        ("A damaged one is named.", "'is named'"),
        ("The training goes on.", "'goes on'"),
        ("It tells what differs.", "'tells'"),
        ("Samebits promises nothing.", "'promises'"),
    ],
)
def test_words(text: str, instead: str) -> None:
    (fault,) = faults(text)
    assert fault.startswith(instead)
    assert faults(f"See `{text}` and [a page]({text})") == []


def test_ordinary_words() -> None:
    assert faults("An image is named by its digest. Tensors are named after layers. It is part of the recipe.") == []


def test_markdown(tmp_path: Path) -> None:
    table, code = "| a | b |\n|---|---|\n| c | d |", "```sh\ncode\n```\n\n    code"
    text = f"# Title\n\nOne\nparagraph.\n\n- item\n- other\n\n{table}\n\n{code}\n"
    blocks = found(tmp_path / "page.md", text)
    assert blocks[:4] == [(1, "Title"), (3, "One paragraph."), (6, "item"), (7, "other")]
    assert {block for _, block in blocks[4:]} == {"a", "b", "c", "d", "---"}
    assert not any("code" in block for _, block in blocks)


def test_python(tmp_path: Path) -> None:
    text = '"""Not this docstring at all."""\nx = f"the run {y} has no result"\nz = "a.b c"\nw = "one two three four"\n'
    assert found(tmp_path / "code.py", text) == [(2, "the run code has no result"), (4, "one two three four")]


def test_template(tmp_path: Path) -> None:
    text = '{% if x %}\n<p class="a">The <code>{{ name }}</code> is here.</p>\n{% endif %}\n'
    assert found(tmp_path / "page.j2", text) == [(2, "The code is here.")]


def test_the_length_of_the_readme() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
