"""A signature of a run's models that OpenSSF's `model_signing` verifies, made by that library.

It covers the folder `models`, and stays valid where that folder goes.
"""

from pathlib import Path

from samebits.core.errors import InputError, RecordError, shorten
from samebits.core.printable import printable
from samebits.core.run_dir import RunDir
from samebits.host.audit.folder_audit import audit_ended
from samebits.host.signing.keys import read_signer

_CURVES = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


def sign_models(run: RunDir, key: Path) -> Path:
    """Sign the models of a run; returns the file beside them. Raises InputError for a key of another kind."""
    public = read_signer(key).public_key
    if public.scheme not in _CURVES:
        raise InputError(
            f"{key} is an {public.keytype} key, which OpenSSF does not take; use `samebits key new --ecdsa -o FILE`"
        )
    _, audit = audit_ended(run, "only a run that has ended can be signed")
    if changed := [str(item) for item in audit.files.damages if item.path.startswith("models")]:
        raise RecordError(f"{run.path}: {shorten(changed, 3)}; no signature covers that")
    if not run.models.is_dir() or not any(run.models.iterdir()):
        raise InputError(f"the run {run.path.name} has no models to sign")
    try:
        from model_signing import signing
    except ImportError as error:
        raise InputError(
            f"--model needs the library model-signing: {error}; install it with `pip install 'samebits[sign]'`"
        ) from error
    target = run.path / f"signed.models.{public.keyid[:8]}.sig"
    try:
        signing.Config().use_elliptic_key_signer(private_key=key).sign(run.models, target)
    except (ValueError, OSError) as error:
        raise InputError(f"the models cannot be signed: {printable(str(error))}") from error
    return target
