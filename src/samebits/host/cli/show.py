"""`samebits show`: show one run, or what an image is made of."""

import argparse
import shlex
from pathlib import Path

from samebits.core.errors import EXIT_OK, InputError
from samebits.host.cli.cluster import show_job
from samebits.host.cli.options import RUN_HELP, add_json, add_runs_folder, completes_runs
from samebits.host.cli.sweep import print_sweep
from samebits.host.console import print_json, print_json_text, print_line


def add_show_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits show`: a run or an image."""
    # A run, or an image without a run.
    subject = parser.add_mutually_exclusive_group(required=True)
    completes_runs(subject.add_argument("run", nargs="?", metavar="RUN", help=f"{RUN_HELP}; or a sweep"))
    subject.add_argument(
        "--image", nargs="?", const="samebits:cpu", metavar="NAME", help="show an image (default: samebits:cpu)"
    )
    parser.add_argument("--csv", action="store_true", help="print the metrics of a run as CSV, a row per epoch")
    add_runs_folder(parser)
    add_json(parser, "the whole record, or the image's SBOM,")
    parser.set_defaults(command=_show_from_options)


def _show_from_options(options: argparse.Namespace) -> int:
    if options.csv and (options.json or options.image is not None):
        raise InputError("--csv is for the metrics of a run; remove --json and --image")
    if options.image is not None:
        return show_image_command(image=options.image, as_json=options.json)
    if options.csv:
        return show_csv_command(run=options.run, runs=options.runs)
    return show_command(run=options.run, runs=options.runs, as_json=options.json)


def show_command(*, run: str, runs: Path | None, as_json: bool) -> int:
    """Show one run, and check its record and ledger; or a job, or the summary of a sweep."""
    from samebits.host.cluster.job_dir import find_job
    from samebits.host.runs.registry import find_run, run_as_json, runs_folder
    from samebits.host.runs.show import show_run
    from samebits.host.sweep.sweep_file import find_sweep, require_finalized

    kept = runs_folder(runs)
    if (job := find_job(run, kept)) is not None:
        show_job(job, as_json=as_json)
        return EXIT_OK
    if (sweep := find_sweep(run, kept)) is not None:
        print_sweep(sweep, require_finalized(sweep), as_json=as_json)
        return EXIT_OK
    folder = find_run(run, kept)
    if as_json:
        print_json(run_as_json(folder))
    else:
        # `resume` looks an id alone up in the usual folder of runs.
        usual = runs is None and folder.path.parent == kept
        show_run(folder, folder.path.name if usual else shlex.quote(str(folder.path)))
    return EXIT_OK


def show_csv_command(*, run: str, runs: Path | None) -> int:
    """Print a run's metrics; raises RecordError, after them, where its ledger was edited."""
    from samebits.host.report.metrics_csv import metrics_csv
    from samebits.host.runs.registry import find_run, runs_folder
    from samebits.host.runs.show import require_intact_ledger

    folder = find_run(run, runs_folder(runs))
    for line in metrics_csv(folder):
        print_line(line)
    require_intact_ledger(folder, folder.read())
    return EXIT_OK


def show_image_command(*, image: str, as_json: bool) -> int:
    """Show an image's digests, layers and packages; as JSON its CycloneDX bill of materials."""
    from samebits.host.docker import Engine
    from samebits.host.image.build import describe_image, require_image
    from samebits.host.image.sbom import bill_of_materials, read_packages
    from samebits.host.runs.show import show_image

    engine = Engine()
    found = require_image(engine, image)
    if as_json:
        print_json_text(bill_of_materials(engine, found))
    else:
        show_image(found, describe_image(engine, found), read_packages(engine, found))
    return EXIT_OK
