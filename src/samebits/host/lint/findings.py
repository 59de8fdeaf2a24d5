"""What `samebits check` says: rules by their codes, findings, and the three forms they are printed in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from samebits import __version__

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What is wrong wherever a rule finds something, and what to write instead."""

    code: str
    what: str
    fix: str


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Finding:
    """A rule's code at a place: `line` from 1, `column` from 1; `about` is what stands there, down to line `last`."""

    path: str
    line: int
    column: int
    code: str
    about: str
    last: int = 0

    def text(self, rules: dict[str, Rule]) -> str:
        """One line."""
        rule = rules[self.code]
        return f"{self.path}:{self.line}:{self.column}: {self.code} {self.about}: {rule.what}; {rule.fix}"

    def to_dict(self, rules: dict[str, Rule]) -> dict[str, Any]:
        """As JSON holds it."""
        rule = rules[self.code]
        return {
            "path": self.path,
            "line": self.line,
            "column": self.column,
            "code": self.code,
            "about": self.about,
            "what": rule.what,
            "fix": rule.fix,
        }


ENTROPY = Rule(code="SB701", what="takes randomness that no seed reaches", fix="give it a seed")
DIVERGENCE = Rule(code="SB702", what="two short runs part", fix="look for what `samebits check --run` says of it")
NONDETERMINISTIC_OP = Rule(
    code="SB703", what="has no deterministic form", fix="go round it as `samebits check --run` says"
)
FAILURE = Rule(code="SB704", what="a short run failed", fix="mend that first")
OF_RUNS = {rule.code: rule for rule in (ENTROPY, DIVERGENCE, NONDETERMINISTIC_OP, FAILURE)}
"""What no reading finds, but short runs do."""


def as_sarif(findings: Sequence[Finding], rules: dict[str, Rule]) -> dict[str, Any]:
    """SARIF 2.1.0, which code hosts and editors show beside the code."""
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
                        "artifactLocation": {"uri": item.path},
                        "region": {"startLine": item.line, "startColumn": item.column},
                    }
                }
            ],
        }
        for item in findings
    ]
    tool = {"driver": {"name": "samebits check", "version": __version__, "rules": described}}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [{"tool": tool, "results": results}]}
