"""Key files: PEM, as `openssl` and the libraries of in-toto read them. Made by `securesystemslib`, imported late."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.errors import InputError
from samebits.core.jsonio import storage_error
from samebits.core.run_files import read_plain

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

PUBLIC = ".pub"
"""What the name of a public key's file ends in."""

_MAX_BYTES = 1 << 16


def create_key(path: Path, *, ecdsa: bool = False, make_folder: bool = False) -> tuple[Path, str]:
    """Write a new Ed25519 or ECDSA key to `path`, and its public half beside it; returns that path and the key's id.

    With `make_folder`, a missing folder is made. Raises InputError where one of the files exists: a key is never
    replaced.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
    from securesystemslib.signer import SSlibKey

    public = path.with_name(path.name + PUBLIC)
    if taken := next((one for one in (path, public) if os.path.lexists(one)), None):
        raise InputError(f"{taken} exists already; a key is never replaced: name another file with -o")
    if make_folder:
        _make_folder(path.parent)
    key = generate_private_key(SECP256R1()) if ecdsa else Ed25519PrivateKey.generate()
    _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write_new(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    return public, SSlibKey.from_crypto(key.public_key()).keyid


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fsync(descriptor)
    except OSError as error:
        raise storage_error(error, path) from error


def read_signer(path: Path) -> "CryptoSigner":
    """The signer of a private key's file; raises InputError for anything but an Ed25519 or ECDSA key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    try:
        return CryptoSigner(load_pem_private_key(_content(path), None))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path} is no private Ed25519 or ECDSA key without a password; see `samebits key`") from error


def read_public_key(path: Path) -> "SSlibKey":
    """A public key's file; raises InputError for anything else."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        return SSlibKey.from_crypto(load_pem_public_key(_content(path)))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path} is no public Ed25519 or ECDSA key; its name usually ends in {PUBLIC}") from error


def _content(path: Path) -> bytes:
    try:
        return read_plain(path.resolve(), _MAX_BYTES)
    except OSError as error:
        raise InputError(f"cannot read the key {path}: {error.strerror}") from error
