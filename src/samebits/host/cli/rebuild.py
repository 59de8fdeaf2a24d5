"""`samebits rebuild`: rebuild a run's image from the run's folder, and compare."""

import argparse
from pathlib import Path

from samebits.host.cli.options import add_docker_only, add_offline, add_run, add_runs_folder, add_trust, docker_engine
from samebits.host.cli.printing import print_comparison

_INSTEAD = "only Docker builds images: copy the run to a machine that has it, and rebuild it there"


def add_rebuild_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits rebuild`."""
    add_run(parser)
    add_docker_only(parser, _INSTEAD)
    add_runs_folder(parser)
    add_offline(parser)
    add_trust(parser)
    parser.set_defaults(
        command=lambda options: rebuild_command(
            run=options.run, runs=options.runs, offline=options.offline, trusted=tuple(options.trusted)
        )
    )


def rebuild_command(*, run: str, runs: Path | None, offline: bool, trusted: tuple[str, ...]) -> int:
    """Rebuild a run's image and compare it with the recorded digest; status 1 if it differs."""
    from samebits.host.audit.file_audit import require_unchanged
    from samebits.host.image.build_context import check_kept
    from samebits.host.image.rebuild import rebuild
    from samebits.host.runs.registry import find_run, runs_folder

    found, engine = find_run(run, runs_folder(runs)), docker_engine(_INSTEAD)
    record = found.read()
    if record.recipe.image.config is not None:
        check_kept(found.image, record.recipe.image)
        require_unchanged(found, record, lambda path: path.startswith("image/"))
    return print_comparison(rebuild(engine, found, offline=offline, trusted=trusted))
