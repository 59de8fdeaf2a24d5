"""`samebits fetch`: get what a script takes from the network, once, and pin it by digest."""

import argparse
from pathlib import Path

from samebits.core.errors import EXIT_OK, InputError, pluralize
from samebits.core.run_config import add_recipe_options, make_config
from samebits.host.cli.options import add_json, add_runtime
from samebits.host.console import print_json, print_line


def add_fetch_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits fetch`."""
    parser.usage = "samebits fetch [options] [SCRIPT [-- script's arguments]]"
    add_recipe_options(parser)
    add_runtime(parser)
    parser.add_argument(
        "--whole", action="store_true", help="run the script to its end, not only to its first training step"
    )
    parser.add_argument(
        "--unpacked", action="store_true", help="also pin what the script unpacks from the archives that it downloads"
    )
    parser.add_argument("--update", action="store_true", help="replace an inputs.lock that holds other files")
    folders = parser.add_mutually_exclusive_group()
    folders.add_argument("--export", type=Path, metavar="DIR", help="write the files for a machine without network")
    folders.add_argument(
        "--import", type=Path, metavar="DIR", dest="source", help="take the files that --export wrote there"
    )
    add_json(parser, "the files of the lock")
    parser.set_defaults(command=fetch_command)


def fetch_command(options: argparse.Namespace) -> int:
    """Fetch what is missing; with a script, find out what it needs first."""
    from samebits.core.inputs_lock import find_lock
    from samebits.core.project import find_root
    from samebits.host.fetch.script_fetch import FetchOptions, export_inputs, fetch_locked, fetch_script

    folder = Path() if options.script is None else options.script.parent
    root = options.code or find_root(folder)
    path = find_lock(folder, root)
    if options.source is not None:
        _import(path, options.source)
    names_script = options.script is not None or options.module is not None
    if names_script and options.source is None and options.export is None:
        how = FetchOptions(whole=options.whole, unpacked=options.unpacked, update=options.update)
        path, lock = fetch_script(make_config(vars(options), fetched=False), how)
    else:
        lock = fetch_locked(path, root)
    if options.export is not None:
        export_inputs(lock, options.export)
    if options.json:
        print_json({"lock": str(path), "digest": str(lock.digest), "files": [file.to_dict() for file in lock.files]})
    elif lock.files:
        print_line(f"inputs {path}: {pluralize(len(lock.files), 'file')}, {lock.size:,} bytes, {lock.digest}")
    else:
        print_line("inputs none: the script fetches nothing")
    return EXIT_OK


def _import(path: Path, source: Path) -> None:
    """Take files for the lock that is here, or for the one beside them, which is copied."""
    from samebits.core.inputs_lock import LOCK_NAME, read_lock
    from samebits.host.fetch.script_fetch import import_inputs
    from samebits.host.inputs.store import named

    if not source.is_dir():
        raise InputError(f"there is no folder {source}; name one that `samebits fetch --export` wrote")
    lock = read_lock(path if path.exists() else source / LOCK_NAME)
    if left := import_inputs(source, lock):
        raise InputError(f"{source} does not hold {named(left)} with the pinned content; export the files again")
    if not path.exists():
        lock.write(path)
