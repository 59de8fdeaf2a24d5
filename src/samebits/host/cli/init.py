"""`samebits init`: make a project of an existing folder."""

import argparse
import shlex
from pathlib import Path

from samebits.core.errors import EXIT_OK, InputError


def add_init_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits init`."""
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="the folder (default: this one)")
    parser.set_defaults(command=lambda options: init_command(folder=options.folder))


def init_command(*, folder: Path) -> int:
    """Write what a project needs and does not have; print what was written, and the commands that come next."""
    from samebits.host.console import print_line
    from samebits.host.project_init import plan_init, write_plan

    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name the folder of your scripts")
    plan = plan_init(folder)
    write_plan(plan)
    for line in plan.reports:
        print_line(line)
    script = shlex.quote(str(folder / plan.script))
    where = "" if folder == Path() else f" {shlex.quote(str(folder))}"
    steps = [f"samebits lock{where}"] if plan.locks else [f"samebits check {script}"]
    for line in ("next:", *(f"  {step}" for step in (*steps, f"samebits train {script}"))):
        print_line(line)
    return EXIT_OK
