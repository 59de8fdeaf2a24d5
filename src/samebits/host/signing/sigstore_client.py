"""The door to the library `sigstore`: a token, a bundle made of a statement, and what a bundle proves.

The library makes a key for each signing, asks a certificate authority to bind it to the identity in the token, and puts
the signature into a public log. The bundle it returns holds all of that, so that no network is needed to verify it.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from samebits.core.errors import InputError, RecordError
from samebits.core.printable import printable
from samebits.core.run_files import read_plain

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken
    from sigstore.verify import Verifier

_VARIABLE = "SIGSTORE_IDENTITY_TOKEN"
"""As the command `sigstore` names it."""

_MAX_TOKEN = 1 << 16
_MAX_CONFIG = 16 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs: a mail address or the URI of a workflow, and the service that vouches for it."""

    name: str
    issuer: str

    def __str__(self) -> str:
        return f"{self.name} (issuer {self.issuer})"


def require_library() -> None:
    """Raise InputError where the library is not installed."""
    # It would log to stderr what it does; errors are raised.
    for name in ("sigstore", "tuf", "id"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    try:
        import sigstore.sign
        import sigstore.verify  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"signatures by an identity need the library sigstore: {error}; install it with"
            " `pip install 'samebits[sign]'`"
        ) from error


def read_trust(path: Path | None, *, offline: bool) -> "ClientTrustConfig":
    """The services and keys of a Sigstore instance: of a file, or of the public one; raises InputError.

    Offline, those of the public instance are what the library fetched last, or what came with it.
    """
    from sigstore.models import ClientTrustConfig

    try:
        if path is None:
            return ClientTrustConfig.production(offline=offline)
        return ClientTrustConfig.from_json(read_plain(path.resolve(), _MAX_CONFIG).decode())
    except OSError as error:
        where = path or error.filename
        raise InputError(f"cannot read the trust configuration {where}: {error.strerror or error}") from error
    except Exception as error:
        if path is not None:
            raise InputError(f"{path} is no client trust configuration: {_reason(error)}") from error
        hint = "" if offline else "; signing by an identity needs a network"
        raise InputError(f"the trust root of Sigstore cannot be had: {_reason(error)}{hint}") from error


def read_token(given: str | None, trust: "ClientTrustConfig") -> "IdentityToken":
    """The token that was given, or else one of the CI's service, or by a browser; raises InputError."""
    from sigstore.oidc import IdentityToken, detect_credential

    with as_input_error("no identity token can be had"):
        text = given or detect_credential()
        return _ask(trust) if text is None else IdentityToken(text)


def _ask(trust: "ClientTrustConfig") -> "IdentityToken":
    from sigstore.oidc import Issuer

    if not sys.stdin or not sys.stdin.isatty():
        raise InputError(
            "there is no identity to sign by: no token of a CI service was found, and no terminal to ask at; name a"
            " file with --identity-token"
        )
    return Issuer(trust.signing_config.get_oidc_url()).identity_token()


def given_token(source: Path | None) -> str | None:
    """A token of a file (`-`: stdin), or of the variable; None where there is neither. Raises InputError."""
    if source is None:
        return os.environ.get(_VARIABLE) or None
    try:
        text = sys.stdin.read(_MAX_TOKEN) if str(source) == "-" else read_plain(source.resolve(), _MAX_TOKEN).decode()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the token {source}: {getattr(error, 'strerror', 'it is no text')}") from error
    if not text.strip():
        raise InputError(f"the token {source} is empty")
    return text.strip()


def identity_of(token: "IdentityToken") -> Identity:
    """The identity that a token will put into the certificate."""
    return Identity(token.identity, token.federated_issuer)


def log_host(trust: "ClientTrustConfig") -> str:
    """The host of the log that publishes a signature; raises InputError."""
    with as_input_error("the trust configuration names no log"):
        return str(urlsplit(trust.signing_config.get_tlogs()[0].url).netloc)


def sign_statements(statements: list[bytes], token: "IdentityToken", trust: "ClientTrustConfig") -> list[bytes]:
    """A bundle for each statement; raises InputError where a service refuses or cannot be reached."""
    from sigstore.dsse import Statement
    from sigstore.sign import SigningContext

    with (
        as_input_error("Sigstore did not sign", str(token)),
        SigningContext.from_trust_config(trust).signer(token) as signer,
    ):
        return [signer.sign_dsse(Statement(statement)).to_json().encode() for statement in statements]


@contextmanager
def as_input_error(what: str, secret: str = "") -> Iterator[None]:
    """Every error as an InputError, without the `secret`.

    The library lets errors of its own, of its HTTP client and of its parsers through: all become one line.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = _reason(error)
        raise InputError(f"{what}: {reason.replace(secret, '…') if secret else reason}") from error


def open_verifier(path: Path | None) -> "Verifier":
    """What verifies bundles by the keys of a Sigstore instance, without a network; raises InputError."""
    from sigstore.verify import Verifier

    trust = read_trust(path, offline=True)
    with as_input_error(f"{path or 'the trust root of Sigstore'} cannot verify"):
        return Verifier(trusted_root=trust.trusted_root)


def verified_payload(bundle: bytes, identity: Identity, verifier: "Verifier") -> tuple[str, bytes]:
    """The type and bytes of what an identity signed; raises RecordError with the library's reason."""
    from sigstore.models import Bundle
    from sigstore.verify.policy import AllOf, OIDCIssuer
    from sigstore.verify.policy import Identity as Policy

    try:
        # The library's own pair of both leaves an empty issuer out.
        policy = AllOf([OIDCIssuer(identity.issuer), Policy(identity=identity.name)])
        kind, payload = verifier.verify_dsse(Bundle.from_json(bundle), policy)
    except Exception as error:
        # Whatever it is: what does not verify is refused.
        raise RecordError(_reason(error)) from error
    return kind, payload


def _reason(error: BaseException) -> str:
    """The first line of an error, or of its cause where it has none."""
    lines = str(error).strip().splitlines()
    if not lines and error.__cause__ is not None:
        return _reason(error.__cause__)
    return printable(lines[0] if lines else type(error).__name__)[:300]
