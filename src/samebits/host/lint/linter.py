"""`samebits check`: find in a script's tree what breaks reproducibility, without running it."""

import ast
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from samebits.core.errors import InputError, pluralize
from samebits.core.file_tree import list_tree
from samebits.core.run_config import RunConfig
from samebits.core.run_setup import check_script, code_filter
from samebits.host.lint.findings import OF_RUNS, Finding, Rule
from samebits.host.lint.rule_table import RULES
from samebits.host.lint.source_module import SourceModule

BY_CODE: dict[str, Rule] = {rule.code: rule for rule, _ in RULES}
Comment = tuple[int, str]
"""Its line, and its words."""

_LOOKS = re.compile(r"#\s*samebits:\s*ignore", re.IGNORECASE)
_IGNORE = re.compile(r"#\s*samebits:\s*ignore\[([A-Z0-9,\s]+)\]\s*(.*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class LintResult:
    """What was found in the files of a script, by their paths; `ignored` is what a comment of its own lets pass.

    `allowed` are all such comments: file, line and code, whether anything was found there or not. `notes` say which
    file could not be read, and which comment lets nothing pass.
    """

    sources: Mapping[str, str]
    findings: tuple[Finding, ...] = ()
    ignored: tuple[Finding, ...] = ()
    allowed: frozenset[tuple[str, int, str]] = frozenset()
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people; the last line counts."""
        count = f"{len(self.findings)} found, {len(self.ignored)} ignored, in {pluralize(len(self.sources), 'file')}"
        return [*(finding.text(BY_CODE) for finding in self.findings), count]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        found = {"findings": self.findings, "ignored": self.ignored}
        lists = {name: [item.to_dict(BY_CODE) for item in items] for name, items in found.items()}
        return {"files": len(self.sources), **lists, "notes": list(self.notes)}


def check(spec: RunConfig) -> LintResult:
    """Look at a script and at all Python files beside it that would be its code; raises InputError."""
    check_script(spec.script, sys.version_info[:2])
    names = [path for path, *_ in list_tree(spec.code_folder, "code", code_filter(spec)) if path.endswith(".py")]
    found: list[Finding] = []
    ignored: list[Finding] = []
    allowed: set[tuple[str, int, str]] = set()
    sources: dict[str, str] = {}
    notes: list[str] = []
    for path in sorted({*names, spec.script.name}):
        try:
            module = read_module(spec.code_folder / path, path)
        except InputError as error:
            if path == spec.script.name:
                raise
            notes.append(f"{error}, or leave it out with --exclude; it was not looked at")
            continue
        sources[path] = module.text
        comments = list(_comments(module.text))
        passing = _allowed(comments)
        notes += _idle(path, comments)
        allowed |= {(path, line, code) for line, codes in passing.items() for code in codes}
        for finding in findings_in(module):
            lines = range(finding.line, finding.last + 1)
            (ignored if any(finding.code in passing.get(line, ()) for line in lines) else found).append(finding)
    return LintResult(
        sources=sources,
        findings=tuple(found),
        ignored=tuple(ignored),
        allowed=frozenset(allowed),
        notes=tuple(notes),
    )


def read_module(file: Path, path: str) -> SourceModule:
    """Parse one file; raises InputError, which names it."""
    try:
        with tokenize.open(file) as opened:
            text = opened.read()
        return SourceModule(path=path, tree=ast.parse(text), text=text)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}; name a file that you may read") from error
    except SyntaxError as error:
        raise InputError(f"{file} is not valid Python: line {error.lineno}: {error.msg}; mend it") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{file} is not Python source that can be read: {error}; mend it") from error


def findings_in(module: SourceModule) -> list[Finding]:
    """What every rule finds in a file, from its first line to its last."""
    found = {
        Finding(
            path=module.path,
            line=node.lineno,
            column=node.col_offset + 1,
            code=rule.code,
            about=about,
            last=(node.end_lineno or node.lineno) if isinstance(node, ast.expr) else node.lineno,
        )
        for rule, look in RULES
        for node, about in look(module)
    }
    return sorted(found)


def _allowed(comments: Iterable[Comment]) -> dict[int, frozenset[str]]:
    """The codes that a comment allows, with a reason, by line."""
    return {
        line: frozenset(re.findall(r"[A-Z0-9]+", match[1]))
        for line, comment in comments
        if (match := _IGNORE.search(comment)) and match[2].strip()
    }


def _idle(path: str, comments: Iterable[Comment]) -> Iterator[str]:
    """Comments that look as if they let something pass, and do not."""
    for line, comment in comments:
        match = _IGNORE.search(comment)
        unknown = [code for code in re.findall(r"\w+", match[1]) if code not in BY_CODE | OF_RUNS] if match else []
        if match is None or unknown or not match[2].strip():
            why = f"there is no rule {unknown[0]}" if unknown else "write a code and a reason"
            yield f"{path}:{line}: this comment lets nothing pass: {why}: # samebits: ignore[SB203] because …"


def _comments(text: str) -> Iterator[Comment]:
    """Those that are meant for us, or look so."""
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type == tokenize.COMMENT and _LOOKS.search(token.string):
            yield token.start[0], token.string
