"""`samebits key` and `samebits sign`: a key file, and signed statements about a run."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from samebits.core.errors import EXIT_OK, InputError
from samebits.core.run_dir import RunDir
from samebits.host.cli.options import add_run, add_runs_folder
from samebits.host.console import confirm, log, print_line


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
    signer = parser.add_mutually_exclusive_group(required=True)
    signer.add_argument("--key", type=Path, metavar="FILE", help="a private Ed25519 or ECDSA key")
    signer.add_argument(
        "--keyless", action="store_true", help="sign by an identity, with Sigstore; publishes it in a log"
    )
    parser.add_argument(
        "--model", action="store_true", help="also sign the models for OpenSSF's `model_signing`; a key must be ECDSA"
    )
    parser.add_argument(
        "--identity-token",
        type=Path,
        metavar="FILE",
        help="with --keyless: a file with an OpenID Connect token; `-` is stdin (default: of the CI, or by a browser)",
    )
    _add_trust_config(parser, "with --keyless: ")
    parser.add_argument("-y", "--yes", action="store_true", help="with --keyless: publish without asking")
    add_runs_folder(parser)
    parser.set_defaults(command=_sign_from_options)


def _add_trust_config(parser: argparse.ArgumentParser, when: str) -> None:
    parser.add_argument(
        "--trust-config",
        type=Path,
        metavar="FILE",
        help=f"{when}the client trust configuration of a private Sigstore (default: the public one)",
    )


def add_require_signed(parser: argparse.ArgumentParser) -> None:
    """Add `--require-signed`, `--require-signed-by` and what belongs to them."""
    parser.add_argument(
        "--require-signed",
        type=Path,
        metavar="KEY",
        help="refuse a run that the holder of this public key did not sign",
    )
    parser.add_argument(
        "--require-signed-by",
        metavar="IDENTITY",
        help="refuse a run that this identity did not sign with --keyless; needs --issuer",
    )
    parser.add_argument(
        "--issuer", metavar="URL", help="with --require-signed-by: who vouches for the identity, as signed"
    )
    _add_trust_config(parser, "with --require-signed-by: ")


def signature_check(options: argparse.Namespace) -> Callable[[RunDir], None] | None:
    """What raises RecordError for a run without the wanted signatures; None where none is wanted. Raises InputError."""
    checks = list(_checks(options))

    def check_all(run: RunDir) -> None:
        for check in checks:
            check(run)

    return check_all if checks else None


def _checks(options: argparse.Namespace) -> Iterator[Callable[[RunDir], None]]:
    key, name, issuer = options.require_signed, options.require_signed_by, options.issuer
    if (name is None) != (issuer is None):
        raise InputError("--require-signed-by IDENTITY and --issuer URL belong together; add the other one")
    if name is None and options.trust_config is not None:
        raise InputError("--trust-config is for signatures by an identity; add --require-signed-by")
    if key is not None:
        from samebits.host.signing.signatures import require_signed

        yield lambda run: require_signed(run, key)
    if name is not None:
        from samebits.host.signing.keyless import IdentityCheck
        from samebits.host.signing.sigstore_client import Identity

        yield IdentityCheck(Identity(name, issuer), options.trust_config).require


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


def _sign_from_options(options: argparse.Namespace) -> int:
    if options.keyless:
        return keyless_command(
            name=options.run,
            runs=options.runs,
            model=options.model,
            token=options.identity_token,
            trust_config=options.trust_config,
            yes=options.yes,
        )
    for option in ("identity_token", "trust_config", "yes"):
        if getattr(options, option):
            raise InputError(f"--{option.replace('_', '-')} is for a signature by an identity; use --keyless")
    return sign_command(name=options.run, key=options.key, model=options.model, runs=options.runs)


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


def keyless_command(
    *, name: str, runs: Path | None, model: bool, token: Path | None, trust_config: Path | None, yes: bool
) -> int:
    """Sign a run by an identity, after asking; print the files, and who signed them."""
    from samebits.host.runs.registry import find_run, runs_folder
    from samebits.host.signing.keyless import KeylessSigner
    from samebits.host.signing.model_signature import require_models, sign_models_keyless
    from samebits.host.signing.signatures import statements_of

    run = find_run(name, runs_folder(runs))
    # Before the token, which lives for minutes.
    statements = statements_of(run)
    if model:
        require_models(run)
    signer = KeylessSigner(token, trust_config)
    log(signer.notice)
    if not (yes or confirm("sign and publish?")):
        raise InputError("nothing was signed or published; add --yes")
    written = signer.sign(run, statements)
    for path in [*written, *([sign_models_keyless(run, signer)] if model else [])]:
        print_line(f"signed {path}")
    print_line(f"identity {signer.identity.name}")
    print_line(f"issuer {signer.identity.issuer}")
    return EXIT_OK
