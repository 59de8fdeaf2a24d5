"""A signature of a run's models that OpenSSF's `model_signing` verifies, made by that library.

It covers the folder `models`, and stays valid where that folder goes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samebits.core.errors import InputError, RecordError, shorten
from samebits.core.run_dir import RunDir
from samebits.host.audit.folder_audit import audit_ended
from samebits.host.signing.keys import read_signer
from samebits.host.signing.sigstore_client import as_input_error

if TYPE_CHECKING:
    from samebits.host.signing.keyless import KeylessSigner

_CURVES = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


def sign_models(run: RunDir, key: Path) -> Path:
    """Sign the models of a run; returns the file beside them. Raises InputError for a key of another kind."""
    public = read_signer(key).public_key
    if public.scheme not in _CURVES:
        raise InputError(
            f"{key} is an {public.keytype} key, which OpenSSF does not take; use `samebits key new --ecdsa -o FILE`"
        )
    require_models(run)
    target = run.path / f"signed.models.{public.keyid[:8]}.sig"
    _sign(run, target, lambda config: config.use_elliptic_key_signer(private_key=key))
    return target


def sign_models_keyless(run: RunDir, signer: "KeylessSigner") -> Path:
    """Sign the models of a run by an identity; returns the bundle beside them."""
    from samebits.host.signing.keyless import bundle_name

    target = run.path / bundle_name("models", signer.identity)
    token, trust = str(signer.token), signer.trust_config
    _sign(run, target, lambda config: config.use_sigstore_signer(identity_token=token, trust_config=trust), token)
    return target


def require_models(run: RunDir) -> None:
    """Raise InputError or RecordError for a run without models, or with changed ones."""
    _, audit = audit_ended(run, "only a run that has ended can be signed")
    if changed := [str(item) for item in audit.files.damages if item.path.startswith("models")]:
        raise RecordError(f"{run.path}: {shorten(changed, 3)}; no signature covers that")
    if not run.models.is_dir() or not any(run.models.iterdir()):
        raise InputError(f"the run {run.path.name} has no models to sign")


def _sign(run: RunDir, target: Path, configure: Callable[[Any], Any], secret: str = "") -> None:
    try:
        from model_signing import signing
    except ImportError as error:
        raise InputError(
            f"--model needs the library model-signing: {error}; install it with `pip install 'samebits[sign]'`"
        ) from error
    with as_input_error("the models cannot be signed", secret):
        configure(signing.Config()).sign(run.models, target)
