#!/usr/bin/env python3
"""Write what some pages take from the code: the parser, the versions of files, and what was measured of the rules.

`make docs` calls it, and a test checks that the pages are current.
"""

import argparse
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from samebits.core.checkpoint_store import CHECKPOINT_VERSION
from samebits.core.inputs_lock import INPUTS_VERSION
from samebits.core.ledger import LEDGER_VERSION
from samebits.core.record import RECORD_VERSION
from samebits.host.capsule.contents import CAPSULE_VERSION
from samebits.host.cli.parser import make_parser
from samebits.host.cluster.job_dir import JOB_VERSION
from samebits.host.rerun.challenge_file import CHALLENGE_VERSION
from samebits.host.runs.verification_file import VERIFICATION_VERSION
from samebits.host.sweep.sweep_file import SWEEP_VERSION

DOCS = Path(__file__).parents[1] / "docs"
_BLOCK = re.compile(r"(<!-- made by tools/reference_pages\.py -->\n).*?(<!-- end -->)", re.DOTALL)

_FORMATS = {
    "record.json": (RECORD_VERSION, "recipe, result, environment, outcome, and a checksum of all that"),
    "ledger.jsonl": (LEDGER_VERSION, "a line for each epoch or step, each with the digest of the line before"),
    "checkpoints/": (
        CHECKPOINT_VERSION,
        "an index for each checkpoint, with a checksum, and objects named by their sha256",
    ),
    "verification.json": (VERIFICATION_VERSION, "the verdict on two runs, on segments, or on a sweep"),
    "challenge (a name of yours)": (CHALLENGE_VERSION, "digests of one run, to find where it diverges from another"),
    "capsule.json": (CAPSULE_VERSION, "every file of a capsule with size and sha256, and a checksum"),
    "sweeps/ID/sweep.json": (SWEEP_VERSION, "plan and summary of a sweep, with a checksum"),
    "jobs/ID/job.json": (JOB_VERSION, "what was submitted to a cluster, with a checksum"),
    "signed.….json": ("DSSE", "an in-toto statement on a run or a verdict"),
    "signed.….sigstore.json": ("Sigstore bundle", "the same, signed by an identity: with certificate and log entry"),
    "inputs.lock": (INPUTS_VERSION, "files from the network: path, sha256, size, URL"),
    "code.jsonl, data.jsonl": ("", "a line for each file: path, size, sha256; of code also `executable`"),
    "files.jsonl": ("", "every file of the run's folder when the record was finalized"),
}


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


def pages() -> dict[Path, str]:
    """The pages as they should be."""
    made = {"commands.md": _commands(), "formats.md": _formats(), "why-runs-differ.md": _rules()}
    return {DOCS / name: _with_block((DOCS / name).read_text("utf-8"), lines) for name, lines in made.items()}


def _with_block(page: str, lines: Iterable[str]) -> str:
    text = "\n".join(lines)
    return _BLOCK.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)


def _commands() -> Iterator[str]:
    """A section for each command: what it does, its arguments, its options."""
    (commands,) = (action.choices for action in _actions(make_parser()) if isinstance(action.choices, dict))
    sections = [_section(name, parser) for name, parser in commands.items()]
    yield "\n\n".join(sections)


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    rows = [
        f"| {_usage(action)} | {_cell(parser, action)} |"
        for action in _actions(parser)
        if action.help not in (None, argparse.SUPPRESS) and action.dest != "help"
    ]
    table = ["", "| argument | meaning |", "|---|---|", *rows] if rows else []
    return "\n".join([f"## samebits {name}", "", (parser.description or "").splitlines()[0], *table])


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return parser._actions  # noqa: SLF001  the parser has no public list of its arguments


def _usage(action: argparse.Action) -> str:
    """An option with all its names, or an argument."""
    value = action.metavar or (" or ".join(map(str, action.choices)) if action.choices else action.dest.upper())
    value = " ".join(value) if isinstance(value, tuple) else value
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    return ", ".join(f"`{name}`" for name in action.option_strings) + ("" if action.nargs == 0 else f" `{value}`")


def _cell(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    values = vars(action) | {"prog": parser.prog}
    return " ".join((str(action.help) % values).split()).replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _formats() -> Iterator[str]:
    yield "| file | version | holds |"
    yield "|---|---|---|"
    for name, (version, meaning) in _FORMATS.items():
        yield f"| `{name}` | {version} | {meaning} |"


def _rules() -> Iterator[str]:
    """A row for each rule that was measured: its two results without samebits's settings, and with them."""
    yield "| rule | what runs differ by | two runs of the bad example, under plain Python | under samebits's settings |"
    yield "|---|---|---|---|"
    for path in sorted((DOCS / "rules").glob("SB*.md")):
        text = path.read_text(encoding="utf-8")
        with_settings = re.search(r"^\| those of `samebits train` \| ([^|]*) \|", text, re.MULTILINE)
        without = re.search(r"^\| none \| ([^|]*) \|", text, re.MULTILINE)
        if with_settings and without:
            yield f"| [{path.stem}](rules/{path.name}) | {_summary(path.stem)} | {without[1]} | {with_settings[1]} |"


def _summary(rule: str) -> str:
    found = re.search(rf"^\| \[{rule}\]\({rule}\.md\) \| ([^|]*) \|", _index(), re.MULTILINE)
    return found[1].strip() if found else ""


def _index() -> str:
    return (DOCS / "rules" / "README.md").read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
