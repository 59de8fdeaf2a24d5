"""Sign statements about a run by an identity, and require that: Sigstore bundles beside the files of key holders.

    signed.provenance.<8 digits of the identity's digest>.sigstore.json      and so on, as in `signatures`

Any tool that reads Sigstore's bundles verifies them against `record.json`.
"""

import hashlib
import json
import re
from base64 import b64decode
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from samebits.core.errors import InputError, RecordError, shorten
from samebits.core.jsonio import write_atomically
from samebits.core.run_dir import RunDir
from samebits.core.run_files import plain_names, read_plain
from samebits.host.console import log
from samebits.host.signing.signatures import (
    MAX_BYTES,
    parse_statement,
    require_statements,
    require_whole,
)
from samebits.host.signing.sigstore_client import (
    Identity,
    given_token,
    identity_of,
    log_host,
    open_verifier,
    read_token,
    read_trust,
    require_library,
    sign_statements,
    verified_payload,
)

if TYPE_CHECKING:
    from cryptography.x509 import Extensions
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken
    from sigstore.verify import Verifier

_NAME = re.compile(r"signed\.(provenance|verdict|sbom)\.[0-9a-f]{8}\.sigstore\.json")
_ISSUER = "1.3.6.1.4.1.57264.1.1"
"""The extension of a certificate that names the issuer, as the library verifies it."""


class KeylessSigner:
    """Signs runs by an identity, which is known before anything is published."""

    def __init__(self, token_source: Path | None, trust_config: Path | None) -> None:
        """Raises InputError without the library, a trust root or an identity."""
        require_library()
        self.trust_config = trust_config
        given = given_token(token_source)
        self._trust: ClientTrustConfig = read_trust(trust_config, offline=False)
        self.token: IdentityToken = read_token(given, self._trust)
        self.identity = identity_of(self.token)
        self.notice = (
            f"{log_host(self._trust)} gets the statements, and publishes their digests and the identity"
            f" {self.identity}; nobody can take that back"
        )

    def sign(self, run: RunDir, statements: list[tuple[str, bytes]]) -> list[Path]:
        """Sign statements about a run; returns the files written, all or none."""
        bundles = sign_statements([statement for _, statement in statements], self.token, self._trust)
        # Of a CI's token the authority takes the workflow, so the certificate may name another identity.
        self.identity = claimed_identity(bundles[0])
        paths = [run.path / bundle_name(kind, self.identity) for kind, _ in statements]
        for path, bundle in zip(paths, bundles, strict=True):
            write_atomically(path, bundle)
        return paths


def bundle_name(kind: str, identity: Identity) -> str:
    """The file of a statement of one kind by an identity."""
    digest = hashlib.sha256(f"{identity.issuer}\n{identity.name}".encode()).hexdigest()
    return f"signed.{kind}.{digest[:8]}.sigstore.json"


class IdentityCheck:
    """Requires that an identity has signed runs; its options are checked before anything of a run is read."""

    def __init__(self, identity: Identity, trust_config: Path | None) -> None:
        """Raises InputError without the library, or for a trust configuration that cannot be read."""
        if not identity.name or not identity.issuer:
            raise InputError("--require-signed-by and --issuer must not be empty")
        require_library()
        self._identity = identity
        self._verifier: Verifier = open_verifier(trust_config)

    def require(self, run: RunDir) -> None:
        """Raise RecordError unless the identity has signed this very run, and nothing was changed since."""
        record = require_whole(run)
        names = set(plain_names(run.path))
        present = {kind for kind in ("provenance", "verdict", "sbom") if bundle_name(kind, self._identity) in names}
        require_statements(run, record, present, lambda kind: self._payload(run, kind, present))
        log(f"{run.path.name} is signed by {self._identity}")

    def _payload(self, run: RunDir, kind: str, present: set[str]) -> dict[str, Any]:
        """What the identity has signed, once its bundle was verified."""
        path = run.path / bundle_name(kind, self._identity)
        if kind not in present:
            others = sorted(str(other) for other in claimed_identities(run))
            by = f"it is signed by {shorten(others, 3)}" if others else "it is not signed by an identity"
            raise RecordError(f"{run.path}: no {kind} is signed by {self._identity}; {by}")
        try:
            return parse_statement(path, *verified_payload(_read(path), self._identity, self._verifier))
        except OSError as error:
            raise RecordError(f"cannot read {path}: {error.strerror}") from error
        except RecordError as error:
            raise RecordError(f"{path} is not what {self._identity} signed: {error}") from error


def _read(path: Path) -> bytes:
    return read_plain(path, MAX_BYTES, path.parent)


def claimed_identities(run: RunDir) -> set[Identity]:
    """Whom the bundles of a run name as signers; nothing is verified, and what cannot be read is left out."""
    found = set()
    for name in filter(_NAME.fullmatch, plain_names(run.path)):
        with suppress(OSError, RecordError):
            found.add(claimed_identity(_read(run.path / name)))
    return found


def claimed_identity(bundle: bytes) -> Identity:
    """Whom the certificate in a bundle names; nothing is verified. Raises RecordError for one that names nobody."""
    from cryptography import x509

    try:
        encoded = json.loads(bundle)["verificationMaterial"]["certificate"]["rawBytes"]
        extensions = x509.load_der_x509_certificate(b64decode(encoded)).extensions
        issuer = extensions.get_extension_for_oid(x509.ObjectIdentifier(_ISSUER)).value
        return Identity(_names(extensions)[0], cast("x509.UnrecognizedExtension", issuer).value.decode())
    except (ValueError, LookupError, TypeError, RecursionError, x509.ExtensionNotFound) as error:
        raise RecordError("the bundle's certificate names no identity") from error


def _names(extensions: "Extensions") -> list[str]:
    from cryptography import x509

    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    others = [other.value.decode() for other in names.get_values_for_type(x509.OtherName)]
    return [
        *names.get_values_for_type(x509.RFC822Name),
        *names.get_values_for_type(x509.UniformResourceIdentifier),
        *others,
    ]
