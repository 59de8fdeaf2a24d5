"""`samebits key` and `samebits sign`: a key file, and signed statements about a run."""

import argparse
from pathlib import Path

from samebits.core.errors import EXIT_OK, InputError
from samebits.host.cli.options import add_run, add_runs_folder
from samebits.host.console import print_line


def add_key_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits key`."""
    parser.add_argument("action", metavar="new", help="new: make a key")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: samebits.key in ~/.config/samebits")
    parser.add_argument(
        "--ecdsa", action="store_true", help="an ECDSA key, which `sign --model` needs (default: an Ed25519 key)"
    )
    parser.set_defaults(
        command=lambda options: key_command(action=options.action, target=options.output, ecdsa=options.ecdsa)
    )


def add_sign_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samebits sign`."""
    add_run(parser)
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="a private Ed25519 or ECDSA key")
    parser.add_argument(
        "--model", action="store_true", help="also sign the models for OpenSSF's `model_signing`; needs an ECDSA key"
    )
    add_runs_folder(parser)
    parser.set_defaults(
        command=lambda options: sign_command(name=options.run, key=options.key, model=options.model, runs=options.runs)
    )


def add_require_signed(parser: argparse.ArgumentParser) -> None:
    """Add `--require-signed`."""
    parser.add_argument(
        "--require-signed",
        type=Path,
        metavar="KEY",
        help="refuse a run that the holder of this public key did not sign",
    )


def key_command(*, action: str, target: Path | None, ecdsa: bool) -> int:
    """Make a key, and print where its public half is."""
    from samebits.core.user_config import key_path
    from samebits.host.signing.keys import create_key

    if action != "new":
        raise InputError(f"`samebits key` takes new, not {action!r}")
    private = target or key_path()
    public, identifier = create_key(private, ecdsa=ecdsa, make_folder=target is None)
    print_line(f"private {private}")
    print_line(f"public {public}")
    print_line(f"id {identifier}")
    return EXIT_OK


def sign_command(*, name: str, key: Path, model: bool, runs: Path | None) -> int:
    """Sign a run, and its verdict if it verified another one; print the files."""
    from samebits.host.runs.registry import find_run, runs_folder
    from samebits.host.signing.model_signature import sign_models
    from samebits.host.signing.signatures import sign

    run = find_run(name, runs_folder(runs))
    # First: it may be refused, and then nothing is written.
    models = [sign_models(run, key)] if model else []
    for path in [*sign(run, key), *models]:
        print_line(f"signed {path}")
    return EXIT_OK
