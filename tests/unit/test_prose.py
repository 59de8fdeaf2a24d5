"""The pages' style: short sentences, and the glossary's words instead of those that only their authors understood."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LONGEST = 25  # words
# Each was read as a word of our own, with what to write instead.
INSTEAD = {
    r"seal(ed|s)?": "finalized, or checksum",
    r"stretch(es)?": "segment batch",
    r"is (said|told)": "say who reports it",
    r"(to )?parts? (with|from|them|by itself)": "diverge",
    r"at hand": "available",
    r"shrinks?": "is reduced",
    r"go(es)? on": "resumes, or continues",
    r"behind (it|each|the)": "after",
    r"hold(s)? to": "limits to",
}


def sentences(text: str) -> Iterator[str]:
    """The sentences of a page's prose: no code, no tables, no headings; a list item ends a sentence."""
    text = re.sub(r"```.*?```", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"^( {4}|\||#).*$", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    for block in re.split(r"\n\s*\n|^\s*(?:-|\d+\.) ", text, flags=re.MULTILINE):
        for sentence in re.split(r"(?<=[.!?:;])\s+", " ".join(block.split())):
            if sentence:
                yield sentence


def too_long(text: str) -> list[str]:
    return [sentence for sentence in sentences(text) if len(sentence.split()) > LONGEST]


def own_words(text: str) -> list[str]:
    prose = "\n".join(sentences(text))
    return [
        f"{found[0]!r}: {words}" for pattern, words in INSTEAD.items() for found in [_find(pattern, prose)] if found
    ]


def _find(pattern: str, prose: str) -> re.Match[str] | None:
    return re.search(rf"\b{pattern}\b", prose, re.IGNORECASE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_style_of_a_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert too_long(text) == []
    assert own_words(text) == []


def test_what_the_style_forbids() -> None:
    assert too_long("First.\n\n" + "word " * 26 + ".")
    assert not too_long("word " * 24 + "word.")
    assert too_long("```\n" + "word " * 26 + "\n```") == []
    assert own_words("The record is sealed.") == ["'sealed': finalized, or checksum"]
    assert own_words("Wrap it in `seal`.") == []


def test_the_length_of_the_readme() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
