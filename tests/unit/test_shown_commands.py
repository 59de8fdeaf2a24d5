"""Every `samebits` command and option that README and pages show exists, with the arguments that the parser wants."""

import re
import shlex
from argparse import ArgumentParser
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import InputError
from samebits.core.run_config import RUNTIMES, split_arguments
from samebits.host.cli.parser import make_parser
from support.command import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
# Of the examples' scripts, and of a script that takes a secret.
FOREIGN = {"--epochs", "--lr", "--api-key"}


@cache
def parser() -> ArgumentParser:
    return make_parser()


@cache
def known() -> set[str]:
    """The options of all commands."""
    choices = [getattr(action, "choices", None) or {} for action in parser()._actions]
    commands = [command for found in choices for command in found.values()]
    return {name for command in commands for action in command._actions for name in action.option_strings}


def blocks(text: str) -> list[str]:
    """The commands of the blocks: what stands alone, without a comment, up to a pipe or another command."""
    fenced = re.findall(r"```(?:console|sh|text)?\n(.*?)```", text, re.DOTALL)
    fenced += re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE)
    lines = [line.strip().removeprefix("$ ") for block in fenced for line in block.splitlines()]
    parts = [part for line in lines for part in simple(line)]
    return [re.sub(r"^(\w+=\S* )*", "", part) for part in parts if re.match(r"(\w+=\S* )*samebits [a-z]", part)]


def simple(line: str) -> list[str]:
    """The commands of a line: without its comment, pipes, and files that it writes to."""
    return [part.strip() for part in re.split(r" # | {2,}#|\|\||&&|\| | >+ ", line)]


def spans(text: str) -> list[str]:
    """The commands within sentences, and in tables."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [part for span in re.findall(r"`(samebits [a-z][^`]*)`", text) for part in simple(span)]


def options(text: str) -> Iterator[str]:
    """The long options within sentences."""
    for span in re.findall(r"`([^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if not re.match(r"(docker|pip|pip-compile|sigstore|scontrol|sbatch|tools/|apt|make) ?", span):
            yield from re.findall(r"(?<![\w'=-])--[a-z][a-z-]*", span)


def parse(line: str) -> Any:
    """As the command does."""
    words, _ = split_arguments(shlex.split(line)[1:])
    parsed, unknown = parser().parse_known_args(words)
    if unknown:
        raise InputError(f"unknown: {unknown}")
    return parsed


def unfinished(line: str) -> bool:
    """A sentence may leave out what a command requires, and `…` stands for anything."""
    try:
        parse(line.replace("…", "x"))
    except InputError as error:
        return re.search(r"required|expected (one|at least one) argument", str(error)) is None
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for line in blocks(text):
        parse(line.replace(" … ", " "))
    assert [line for line in spans(text) if unfinished(line)] == []
    assert set(options(text)) - known() - FOREIGN - {"--version"} == set()


def test_the_readme_names_every_runtime() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [kind for kind in RUNTIMES if kind not in {"auto", "venv"} and kind not in readme.lower()] == []
    assert "virtual environment" in readme
    assert "--runtime podman" in readme


def test_what_is_found() -> None:
    block = "```console\n$ A=b samebits train x.py  # why\nprinted\n```"
    indented = "    samebits gc || samebits list > x"
    text = f"{block}\n\n{indented}\n\n`samebits nothing --x`\n"
    assert blocks(text) == ["samebits train x.py", "samebits gc", "samebits list"]
    assert [line for line in spans(text) if unfinished(line)] == ["samebits nothing --x"]
    assert set(options(text)) == {"--x"}
    assert unfinished("samebits train x.py --no-such-option")
    assert not unfinished("samebits verify")
