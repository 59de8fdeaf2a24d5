"""Rules, findings, and their three output formats: text, JSON and SARIF."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from samebits import __version__

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A rule: its code, the defect that it finds, and the fix.

    `harmless` says that a run under samebits repeats all the same, because a setting of the run hides the defect.
    `what` continues a sentence that begins with the code at fault: "os.listdir(): lists entries in file-system order".
    """

    code: str
    what: str
    fix: str
    harmless: bool = False


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Finding:
    """One match of a rule. `line` and `column` count from 1; `about` is the code at fault, `last` its last line.

    In a script made of a notebook, `cell` is the cell, and `cell_line` the line in it.
    """

    path: str
    line: int
    column: int
    code: str
    about: str
    last: int = 0
    cell: int = 0
    cell_line: int = 0

    @property
    def shown_path(self) -> str:
        """The file as the user knows it: the notebook."""
        return self.path.removesuffix(".py") if self.cell else self.path

    @property
    def shown_line(self) -> int:
        """The line as the user sees it: in the notebook's cell."""
        return self.cell_line or self.line

    def text(self, rules: dict[str, Rule]) -> str:
        """The finding as one line of text."""
        rule = rules[self.code]
        place = f"{self.shown_path}:" + (f"cell {self.cell}:" if self.cell else "")
        return f"{place}{self.shown_line}:{self.column}: {self.code} {self.about}: {rule.what}; {rule.fix}"

    def to_dict(self, rules: dict[str, Rule]) -> dict[str, Any]:
        """As the JSON output has it."""
        rule = rules[self.code]
        return {
            "path": self.shown_path,
            **({"cell": self.cell} if self.cell else {}),
            "line": self.shown_line,
            "column": self.column,
            "code": self.code,
            "about": self.about,
            "what": rule.what,
            "fix": rule.fix,
            **({"harmless": True} if rule.harmless else {}),
        }


ENTROPY = Rule(code="SB701", what="draws unseeded randomness", fix="pass a seed")
DIVERGENCE = Rule(code="SB702", what="two short runs diverge", fix="see `samebits check --run` for the cause")
NONDETERMINISTIC_OP = Rule(
    code="SB703", what="has no deterministic implementation", fix="use the workaround that `samebits check --run` names"
)
FAILURE = Rule(code="SB704", what="a short run failed", fix="fix this failure first")
RESUME = Rule(code="SB705", what="a short run cannot be resumed to the same bits", fix="see `samebits check --resume`")
PROBE_RULES = {rule.code: rule for rule in (ENTROPY, DIVERGENCE, NONDETERMINISTIC_OP, FAILURE, RESUME)}
"""The rules that need short runs (`--run`, `--resume`)."""


def as_sarif(findings: Sequence[Finding], rules: dict[str, Rule]) -> dict[str, Any]:
    """The findings as SARIF 2.1.0, which code hosts and editors display next to the code."""
    # Viewers show the text of the rule once, and the message at every result.
    described = [
        {"id": rule.code, "shortDescription": {"text": rule.what}, "help": {"text": rule.fix}}
        for rule in rules.values()
    ]
    results = [
        {
            "ruleId": item.code,
            "level": "warning",
            "message": {"text": f"{item.about}: {rules[item.code].what}; {rules[item.code].fix}"},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": item.shown_path},
                        "region": {"startLine": item.shown_line, "startColumn": item.column},
                    }
                }
            ],
        }
        for item in findings
    ]
    tool = {"driver": {"name": "samebits check", "version": __version__, "rules": described}}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [{"tool": tool, "results": results}]}
