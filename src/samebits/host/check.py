"""`samebits check`: find in a script's tree what breaks reproducibility, without running it."""

import ast
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from samebits.errors import InputError, counted
from samebits.host.findings import Finding, Rule
from samebits.host.module import Module
from samebits.host.rules import RULES
from samebits.prepare import check_script, code_filter
from samebits.spec import RunSpec
from samebits.tree import list_tree

BY_CODE: dict[str, Rule] = {rule.code: rule for rule, _ in RULES}
_IGNORE = re.compile(r"#\s*samebits:\s*ignore\[([A-Z0-9,\s]+)\]\s*(.*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What was found in so many files; `ignored` is what a comment of the script's own lets pass."""

    files: int
    findings: tuple[Finding, ...]
    ignored: tuple[Finding, ...]

    def lines(self) -> list[str]:
        """For people; the last line counts."""
        count = f"{len(self.findings)} found, {len(self.ignored)} ignored, in {counted(self.files, 'file')}"
        return [*(finding.text(BY_CODE) for finding in self.findings), count]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        found = {"findings": self.findings, "ignored": self.ignored}
        lists = {name: [item.to_dict(BY_CODE) for item in items] for name, items in found.items()}
        return {"files": self.files, **lists}


def check(spec: RunSpec) -> Checked:
    """Look at a script and at all Python files beside it that would be its code; raises InputError."""
    check_script(spec.script, sys.version_info[:2])
    paths = [path for path, *_ in list_tree(spec.code_folder, "code", code_filter(spec)) if path.endswith(".py")]
    found: list[Finding] = []
    ignored: list[Finding] = []
    for path in paths:
        module = read_module(spec.code_folder / path, path)
        allowed = _allowed(module)
        for finding in findings_in(module):
            (ignored if finding.code in allowed.get(finding.line, ()) else found).append(finding)
    return Checked(files=len(paths), findings=tuple(found), ignored=tuple(ignored))


def read_module(file: Path, path: str) -> Module:
    """Parse one file; raises InputError, which names it."""
    try:
        with tokenize.open(file) as opened:
            text = opened.read()
        return Module(path=path, tree=ast.parse(text), text=text)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}; name a file that you may read") from error
    except SyntaxError as error:
        raise InputError(f"{file} is not valid Python: line {error.lineno}: {error.msg}; mend it") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{file} is not Python source that can be read: {error}; mend it") from error


def findings_in(module: Module) -> list[Finding]:
    """What every rule finds in a file, from its first line to its last."""
    found = {
        Finding(path=module.path, line=node.lineno, column=node.col_offset + 1, code=rule.code, about=about)
        for rule, look in RULES
        for node, about in look(module)
    }
    return sorted(found)


def _allowed(module: Module) -> dict[int, frozenset[str]]:
    """The codes that a comment allows, with a reason, by line."""
    return {
        line: frozenset(re.findall(r"[A-Z0-9]+", match[1]))
        for line, comment in _comments(module.text)
        if (match := _IGNORE.search(comment)) and match[2].strip()
    }


def _comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
