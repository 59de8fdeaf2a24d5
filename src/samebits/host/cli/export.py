"""`samebits export`: a run in the formats that others read."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.errors import EXIT_OK, InputError, shorten
from samebits.host.cli.options import add_run, add_runs_folder
from samebits.host.console import print_line

if TYPE_CHECKING:
    from samebits.core.run_dir import RunDir

_OPTIONS = {
    "rocrate": ("author", "license"),
    "mlflow": ("to", "experiment"),
    "model-card": ("output", "author", "license"),
    "croissant": ("output", "author", "license", "url"),
}
"""The formats, each with the options that it takes."""


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits export`."""
    parser.add_argument("format", metavar="FORMAT", help="rocrate, mlflow, model-card or croissant")
    add_run(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the file of a model card or of croissant (default: named by the run)",
    )
    parser.add_argument("--to", metavar="URI", help="mlflow's store (default: $MLFLOW_TRACKING_URI, else mlruns)")
    parser.add_argument("--experiment", metavar="NAME", help="mlflow's experiment (default: samebits)")
    parser.add_argument("--author", action="append", metavar="NAME", help="who trained; repeatable")
    parser.add_argument("--license", metavar="NAME", help="the license to name")
    parser.add_argument("--url", metavar="URL", help="where the data of croissant is (default: data)")
    add_runs_folder(parser)
    parser.set_defaults(command=export_command)


def export_command(options: argparse.Namespace) -> int:
    """Write the run, and print where."""
    from samebits.host.runs.registry import find_run, runs_folder

    if options.format not in _OPTIONS:
        raise InputError(f"samebits exports {shorten(list(_OPTIONS), len(_OPTIONS))}, not {options.format!r}")
    for name in sorted({name for names in _OPTIONS.values() for name in names} - set(_OPTIONS[options.format])):
        if getattr(options, name) is not None:
            raise InputError(f"--{name} is not for {options.format}; leave it out")
    for name in ("author", "license", "url", "experiment", "to"):
        given = getattr(options, name) or ""
        text = given if isinstance(given, str) else "".join(given)
        # Undecodable bytes of the command line are surrogates, which no file in UTF-8 can hold.
        if text != text.encode("utf-8", "replace").decode():
            raise InputError(f"--{name} is not UTF-8; write it in UTF-8")
    for line in _export(find_run(options.run, runs_folder(options.runs)), options):
        print_line(line)
    return EXIT_OK


def _export(run: "RunDir", options: argparse.Namespace) -> list[str]:
    from samebits.host.export.croissant import write_croissant
    from samebits.host.export.facts import Request
    from samebits.host.export.mlflow_store import DEFAULT_EXPERIMENT, export_mlflow
    from samebits.host.export.model_card import write_model_card
    from samebits.host.export.ro_crate import write_crate

    request = Request(authors=tuple(options.author or ()), license=options.license, url=options.url)
    if options.format == "mlflow":
        store, name = export_mlflow(run, options.to, options.experiment or DEFAULT_EXPERIMENT)
        return [f"store {store}", f"run {name}"]
    if options.format == "rocrate":
        return [f"crate {write_crate(run, request)}"]
    write = write_croissant if options.format == "croissant" else write_model_card
    return [f"file {write(run, options.output, request)}"]
