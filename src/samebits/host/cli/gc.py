"""`samebits gc`: list what runs, caches and images take, and remove what is unused and can be made again."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.errors import EXIT_OK, InputError
from samebits.host.cli.options import add_docker_only, add_json, add_runs_folder

if TYPE_CHECKING:
    from samebits.host.cleanup.plan import CleanupRequest


def add_gc_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `samebits gc`."""
    add_docker_only(
        parser,
        "gc lists images of Docker and Apptainer: drop --runtime, and remove those of Podman with `podman rmi`",
    )
    parser.add_argument("--dry-run", action="store_true", help="only list what is here and what would go")
    parser.add_argument("-y", "--yes", action="store_true", help="remove without asking")
    parser.add_argument(
        "--unused-for", default="30d", metavar="AGE", help="only what was not used for so long (default: 30d)"
    )
    parser.add_argument(
        "--also-needed", action="store_true", help="also what a kept run needs and can be made again; the list names it"
    )
    parser.add_argument(
        "--build-cache", action="store_true", help="also the engine's build cache, which other projects may use"
    )
    add_runs_folder(parser)
    add_json(parser, "the list")
    parser.set_defaults(command=_gc_from_options)


def _gc_from_options(options: argparse.Namespace) -> int:
    from samebits.host.cleanup.plan import CleanupRequest
    from samebits.host.runs.run_list import parse_age

    if options.dry_run and options.yes:
        raise InputError("--dry-run removes nothing, and --yes removes without asking; use one of them")
    request = CleanupRequest(
        unused_for=parse_age(options.unused_for).total_seconds(),
        needed=options.also_needed,
        build_cache=options.build_cache,
    )
    return gc_command(request=request, runs=options.runs, dry=options.dry_run, yes=options.yes, as_json=options.json)


def gc_command(*, request: "CleanupRequest", runs: Path | None, dry: bool, yes: bool, as_json: bool) -> int:
    """List, ask, remove. Without a terminal to ask at, nothing is removed unless `yes`: status 2."""
    from samebits.host.cleanup.plan import plan_cleanup, print_plan, remove_items
    from samebits.host.console import confirm, print_json
    from samebits.host.runs.registry import runs_folder

    plan = plan_cleanup(runs_folder(runs), request)
    if as_json:
        print_json(plan.to_dict())
    else:
        print_plan(plan)
    if dry or not plan.free:
        return EXIT_OK
    if not (yes or confirm("remove what is marked to go?")):
        raise InputError("nothing was removed; add --yes to remove, or --dry-run to only list")
    remove_items(plan.free)
    return EXIT_OK
