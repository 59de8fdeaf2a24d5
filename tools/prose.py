#!/usr/bin/env python3
"""Check the prose of pages, help and messages against `tools/prose.toml`: `tools/prose.py [FILE...]`.

Checks sentences by their number of words, and words that the style replaces; status 1 for faults. Of Python files it
reads the texts that users see: literals of four words or more, without docstrings. Names and code are left out.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
STYLE = Path(__file__).with_suffix(".toml")
_PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/*.md", "docs/rules/*.md")
_SOURCES = ("src/samebits/**/*.py", "src/samebits/**/*.j2")
_WORD = re.compile(r"[^\W\d_]{2,}")
_CODE = "code"


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """The most words of a sentence, and patterns with what to write instead."""

    words: int
    instead: dict[re.Pattern[str], str]

    @classmethod
    def read(cls, path: Path = STYLE) -> "Style":
        """Raises KeyError where a value is missing."""
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        patterns = {re.compile(rf"\b{pattern}\b", re.IGNORECASE): text for pattern, text in values["instead"].items()}
        return cls(words=values["words"], instead=patterns)

    def faults(self, text: str) -> Iterator[str]:
        """What is wrong in a block of prose."""
        for sentence in sentences(text):
            if len(sentence.split()) > self.words:
                yield f"{len(sentence.split())} words: {sentence}"
            for pattern, instead in self.instead.items():
                if found := pattern.search(sentence):
                    yield f"'{found[0]}' ({instead}): {sentence}"


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, with one word in the place of code and of a link's address."""
    text = re.sub(r"`[^`]*`", _CODE, text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    for sentence in re.split(r"(?<=[.!?:;])\s+", " ".join(text.split())):
        if sentence:
            yield sentence


def blocks(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each piece of prose in a file."""
    text = path.read_text(encoding="utf-8")
    readers = {".py": _literals, ".j2": _template, ".md": _markdown}
    yield from readers[path.suffix](text)


def _markdown(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs, list items, headings and cells; no blocks of code."""
    blank = re.sub(r"```.*?```|<!--.*?-->", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)
    paragraph: list[str] = []
    for number, line in enumerate([*blank.splitlines(), ""], 1):
        if paragraph and re.match(r"\s*$|\s*(-|\d+\.) |\||#", line):
            yield number - len(paragraph), "\n".join(paragraph)
            paragraph = []
        if line.startswith("|"):
            yield from ((number, cell) for cell in re.split(r"(?<!\\)\|", line))
        elif line.startswith("#"):
            yield number, line.lstrip("# ")
        elif not line.startswith("    ") and line.strip():
            paragraph.append(re.sub(r"^\s*(-|\d+\.) ", "", line))


def _template(text: str) -> Iterator[tuple[int, str]]:
    """The text between tags."""
    text = re.sub(r"\{#.*?#\}", "", text, flags=re.DOTALL)
    text = re.sub(r"\{\{.*?\}\}", _CODE, text, flags=re.DOTALL)
    text = re.sub(r"\{%.*?%\}|</?(?:code|strong|em)>", " ", text, flags=re.DOTALL)
    for number, line in enumerate(text.splitlines(), 1):
        yield from ((number, piece) for piece in re.split(r"<[^>]*>", line))


def _literals(text: str) -> Iterator[tuple[int, str]]:
    """The literals that read like prose; what is filled in counts as one word."""
    tree = ast.parse(text)
    skipped = set(_docstrings(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped.update(id(part) for part in ast.walk(node) if part is not node)
    for node in ast.walk(tree):
        if id(node) not in skipped and isinstance(node, ast.JoinedStr | ast.Constant):
            found = _shown(node)
            if len(_WORD.findall(found)) >= 4 and " " in found and "\n" not in found.strip():
                yield node.lineno, found


def _docstrings(tree: ast.AST) -> Iterator[int]:
    """Ids of the literals that stand alone as a statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield id(node.value)


def _shown(node: ast.JoinedStr | ast.Constant) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    parts = [part.value if isinstance(part, ast.Constant) else _CODE for part in node.values]
    return "".join(str(part) for part in parts)


def default_files() -> list[Path]:
    """What `make lint` checks."""
    return sorted({path for pattern in (*_PAGES, *_SOURCES) for path in ROOT.glob(pattern)})


def check(paths: list[Path], style: Style) -> list[str]:
    """The faults of the files, each with its place."""
    return [
        f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{line}: {fault}"
        for path in paths
        for line, text in blocks(path)
        for fault in style.faults(text)
    ]


if __name__ == "__main__":
    found = check([Path(name).resolve() for name in sys.argv[1:]] or default_files(), Style.read())
    print("\n".join(found) or "prose: no faults")
    sys.exit(bool(found))
