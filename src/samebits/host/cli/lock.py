"""`samebits lock`: lock the packages that a project requires."""

import argparse
from pathlib import Path

from samebits.core.errors import EXIT_OK, InputError, pluralize
from samebits.core.project import CONFIG_NAME, CodeLayout, find_root
from samebits.core.run_config import RunConfig, read_config
from samebits.host.console import print_line


def add_lock_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits lock`."""
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="the project's folder (default: this one)")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that agree, for all packages")
    parser.add_argument(
        "--upgrade-package", action="append", default=[], metavar="NAME", help="the same for one package; repeatable"
    )
    parser.add_argument(
        "--build",
        action="append",
        default=[],
        metavar="NAME",
        help="build a package that exists as source only, and keep its wheel; runs its code here; repeatable",
    )
    parser.set_defaults(
        command=lambda options: lock_command(
            folder=options.folder,
            upgrade=options.upgrade,
            packages=tuple(options.upgrade_package),
            build=tuple(options.build),
        )
    )


def lock_command(*, folder: Path, upgrade: bool, packages: tuple[str, ...], build: tuple[str, ...] = ()) -> int:
    """Compile the project's requirements into its lock, and print how many packages it pins."""
    from samebits.host.image.lock_compiler import Upgrades, build_wheels, compile_lock
    from samebits.host.image.project_lock import LOCK_NAME, find_requirements
    from samebits.host.image.requirements import SOURCES, read_requirements
    from samebits.host.interpreters import find_interpreter

    spec = _project(folder)
    source = find_requirements(spec)
    if source is None:
        raise InputError(f"{folder.absolute()} has no {SOURCES[0]}; write the names of your packages into one")
    target = spec.lock or source.parent / LOCK_NAME
    if target.suffix == ".toml":
        raise InputError(f"{target} is another tool's lock; make it with that, or name another in {CONFIG_NAME}")
    upgrades = Upgrades(everything=upgrade, packages=packages)
    interpreter, requirements = find_interpreter(spec.python), read_requirements(source)
    build_wheels(build, requirements, target, interpreter)
    pins = compile_lock(requirements, target, upgrades, interpreter)
    print_line(f"locked {pluralize(len(pins), 'package')} in {target}")
    return EXIT_OK


def _project(folder: Path) -> RunConfig:
    """A script in a folder, with the project around it."""
    root = find_root(folder)
    given = read_config(root / CONFIG_NAME)
    return RunConfig(
        script=folder / "train.py",
        layout=CodeLayout(folder=root, entry="train.py", workdir="."),
        requirements=given.get("requirements"),
        lock=given.get("lock"),
        python=given.get("python"),
    )
