"""`samebits check`: find what breaks reproducibility in a script's code tree, without running it."""

import ast
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from samebits.core.code_tree import check_script, code_filter, read_script
from samebits.core.errors import InputError, pluralize
from samebits.core.inputs_lock import read_lock
from samebits.core.notebook import SUFFIX, cell_of, is_notebook
from samebits.core.run_config import RunConfig
from samebits.core.tree_walk import list_tree
from samebits.host.lint.findings import PROBE_RULES, Finding, Rule
from samebits.host.lint.missing_packages import missing_packages
from samebits.host.lint.rule_table import RULES
from samebits.host.lint.rules_outside import network_access, reads_pinned
from samebits.host.lint.source_module import SourceModule

BY_CODE: dict[str, Rule] = {rule.code: rule for rule, _ in RULES}
Comment = tuple[int, str]
"""Line number and text."""

_LOOKS_LIKE_IGNORE = re.compile(r"#\s*samebits:\s*ignore", re.IGNORECASE)
_IGNORE_COMMENT = re.compile(r"#\s*samebits:\s*ignore\[([A-Z0-9,\s]+)\]\s*(.*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class LintResult:
    """The findings in a script's files; `sources` are the files' texts by path.

    `ignored` are findings with an ignore comment. `allowed` are all ignore comments as (file, line, code), with or
    without a finding. `notes` report unreadable files and ineffective comments.
    """

    sources: Mapping[str, str]
    findings: tuple[Finding, ...] = ()
    ignored: tuple[Finding, ...] = ()
    allowed: frozenset[tuple[str, int, str]] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def counted(self) -> tuple[Finding, ...]:
        """The findings that make results differ under samebits, too."""
        return tuple(item for item in self.findings if not BY_CODE[item.code].harmless)

    def lines(self) -> list[str]:
        """The text output; the last line is the count."""
        count = f"{len(self.findings)} found, {len(self.ignored)} ignored, in {pluralize(len(self.sources), 'file')}"
        harmless = len(self.findings) - len(self.counted)
        count += f"; {harmless} of them harmless under `samebits train`" if harmless else ""
        return [*(finding.text(BY_CODE) for finding in self.findings), count]

    def to_dict(self) -> dict[str, Any]:
        """As the JSON output has it."""
        found = {"findings": self.findings, "ignored": self.ignored}
        lists = {name: [item.to_dict(BY_CODE) for item in items] for name, items in found.items()}
        return {"files": len(self.sources), **lists, "notes": list(self.notes)}


def check(spec: RunConfig) -> LintResult:
    """Check a script and all Python files in its code tree; raises InputError."""
    check_script(spec.script, sys.version_info[:2])
    modules, notes = _read_modules(spec)
    pinned = _pinned(spec)
    found: list[Finding] = []
    ignored: list[Finding] = []
    allowed: set[tuple[str, int, str]] = set()
    for module in modules:
        comments = list(_comments(module.text))
        exempt = _ignored_codes(comments)
        notes += _ineffective_comments(module.path, comments)
        allowed |= {(module.path, line, code) for line, codes in exempt.items() for code in codes}
        for finding in findings_in(module, pinned):
            # Formatters put a comment at the end of a call, lines below its start.
            lines = range(finding.line, finding.last + 1)
            (ignored if any(finding.code in exempt.get(line, ()) for line in lines) else found).append(finding)
    notes += missing_packages(spec, modules)
    return LintResult(
        sources={module.path: module.text for module in modules},
        findings=tuple(found),
        ignored=tuple(ignored),
        allowed=frozenset(allowed),
        notes=tuple(notes),
    )


def _pinned(spec: RunConfig) -> frozenset[str]:
    """The addresses whose contents `inputs.lock` pins."""
    files = () if spec.inputs is None else read_lock(spec.inputs).files
    return frozenset(file.url for file in files if file.url is not None)


def _read_modules(spec: RunConfig) -> tuple[list[SourceModule], list[str]]:
    """The parsed files of the code tree, and notes on those that cannot be parsed."""
    names = [path for path, *_ in list_tree(spec.code_folder, "code", code_filter(spec)) if path.endswith(".py")]
    modules: list[SourceModule] = []
    notes: list[str] = []
    for path in sorted({*names, spec.code.entry}):
        try:
            notebook = path == spec.code.entry and is_notebook(spec.script)
            modules.append(_of_notebook(spec) if notebook else read_module(spec.code_folder / path, path))
        except InputError as error:
            # Another file may never be imported, so it must not stop the check.
            if path == spec.code.entry:
                raise
            notes.append(f"{error}, or leave it out with --exclude; it was not checked")
    return modules, notes


def _of_notebook(spec: RunConfig) -> SourceModule:
    """The script that the notebook becomes."""
    text = read_script(spec.script).decode()
    return SourceModule(path=spec.code.entry, tree=ast.parse(text), text=text)


def read_module(file: Path, path: str) -> SourceModule:
    """Parse one file; raises InputError with its path."""
    try:
        # Honours the encoding that the file declares.
        with tokenize.open(file) as opened:
            text = opened.read()
        return SourceModule(path=path, tree=ast.parse(text), text=text)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}; make it readable for you") from error
    except SyntaxError as error:
        raise InputError(f"{file} is not valid Python: line {error.lineno}: {error.msg}; fix it") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{file} cannot be parsed as Python: {error}; fix it") from error


def findings_in(module: SourceModule, pinned: frozenset[str] = frozenset()) -> list[Finding]:
    """The findings of all rules in a file, in the order of lines; a download of a pinned address is none."""
    found = {
        Finding(
            path=module.path,
            line=node.lineno,
            column=node.col_offset + 1,
            code=rule.code,
            about=about,
            last=(node.end_lineno or node.lineno) if isinstance(node, ast.expr) else node.lineno,
        )
        for rule, matches in RULES
        for node, about in matches(module)
        if matches is not network_access or not reads_pinned(module, node, pinned)
    }
    # `found` is a set, because a rule may reach the same node twice.
    return [_in_cell(finding, module.text) for finding in sorted(found)]


def _in_cell(finding: Finding, text: str) -> Finding:
    """The finding with its cell, in a script made of a notebook."""
    if not finding.path.endswith(f"{SUFFIX}.py"):
        return finding
    cell, line = cell_of(text, finding.line)
    return replace(finding, cell=cell, cell_line=line)


def _ignored_codes(comments: Iterable[Comment]) -> dict[int, frozenset[str]]:
    """The codes of ignore comments that give a reason, by line."""
    return {
        line: frozenset(re.findall(r"[A-Z0-9]+", match[1]))
        for line, comment in comments
        if (match := _IGNORE_COMMENT.search(comment)) and match[2].strip()
    }


def _ineffective_comments(path: str, comments: Iterable[Comment]) -> Iterator[str]:
    """Notes on comments that look like an ignore comment, but have no effect."""
    for line, comment in comments:
        match = _IGNORE_COMMENT.search(comment)
        unknown = [code for code in re.findall(r"\w+", match[1]) if code not in BY_CODE | PROBE_RULES] if match else []
        if match is None or unknown or not match[2].strip():
            why = f"there is no rule {unknown[0]}" if unknown else "it needs the code of a rule and a reason"
            yield f"{path}:{line}: this ignore comment has no effect: {why}; write: # samebits: ignore[SB203] reason"


def _comments(text: str) -> Iterator[Comment]:
    """All comments that are, or look like, an ignore comment."""
    # Tokens rather than text: a string may contain the same words.
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type == tokenize.COMMENT and _LOOKS_LIKE_IGNORE.search(token.string):
            yield token.start[0], token.string
