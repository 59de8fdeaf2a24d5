#!/usr/bin/env python3
"""Run the commands of a tutorial's console blocks, and paste what they print: `tools/paste_output.py docs/tutorial.md`.

All run in one folder, with a copy of what the page names in `<!-- in examples/NAME, examples/DATA -->`, in a virtual
environment. A comment `<!-- last N lines -->` before a block shortens what each of its commands printed.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"(?:<!-- last (\d+) lines -->\n)?```console\n(.*?)```", re.DOTALL)


def main() -> None:
    """Write the page anew, in place."""
    page = Path(sys.argv[1])
    page.write_text(with_output(page.read_text(encoding="utf-8")), encoding="utf-8")


def with_output(text: str) -> str:
    """The page with what its commands print now."""
    ((example, data),) = re.findall(r"<!-- in (\S+), (\S+) -->", text)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "project")
        shutil.copytree(ROOT / example, folder)
        shutil.copytree(ROOT / data, folder / "data")
        settings = Path(scratch, "config", "samebits", "config.toml")
        settings.parent.mkdir(parents=True)
        settings.write_text('runtime = "venv"\n')
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "XDG_CONFIG_HOME": str(settings.parents[1]), "NO_COLOR": "1"}
        return _BLOCK.sub(lambda found: _ran(found, folder, environment), text)


def _ran(found: re.Match[str], folder: Path, environment: dict[str, str]) -> str:
    commands = [line[2:] for line in found[2].splitlines() if line.startswith("$ ")]
    lines = [line for command in commands for line in _lines(command, folder, environment, int(found[1] or 0))]
    return f"{found[0].partition('```')[0]}```console\n" + "".join(f"{line}\n" for line in lines) + "```"


def _lines(command: str, folder: Path, environment: dict[str, str], last: int) -> Iterator[str]:
    """The command, and what it printed; a status of 1 is a difference, and an answer."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=1200, check=False
    )
    if done.returncode > 1:
        raise SystemExit(f"{command}: {done.stderr}")
    yield f"$ {command}"
    printed = done.stdout.replace(f"{folder}/", "").splitlines()
    if last and len(printed) > last:
        yield "…"
    yield from printed[-last:] if last else printed


if __name__ == "__main__":
    main()
