"""How the machine computes under a run: its fingerprint, the operations reached on it, and the promise that follows."""

import os
from collections.abc import Callable
from pathlib import Path

from samebits.core.determinism_profile import NATIVE, PORTABLE, Profile
from samebits.core.environment import Arithmetic, Environment, PortabilityGuarantee
from samebits.core.errors import SettingError, shorten
from samebits.runner.compat.features import EXACT_OPS, OP_AUDIT, SETTINGS
from samebits.runner.compat.numpy_private import openblas_core
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.self_test import look_at_names
from samebits.runner.determinism.fingerprint import Fingerprint, FingerprintJob, fingerprint
from samebits.runner.determinism.op_audit import (
    OpRecorder,
    ProvenTable,
    c_library,
    computing,
    read_proven,
    refuse_compiling,
    refuse_weighted_bincount,
)
from samebits.runner.determinism.settings import (
    SettingsGuard,
    numpy_features,
    prepare_environment,
    read_back_fingerprint,
    read_back_settings,
    seed_everything,
)
from samebits.runner.process.console import log
from samebits.runner.process.output_capture import quiet_import

_SHOWN = 5


class PortabilityMonitor:
    """Takes the fingerprint beside the script, and judges before the first step and at the end."""

    def __init__(self, profile: Profile, note: Callable[[Environment], None], *, fingerprinted: bool = True) -> None:
        """`note` takes what was observed, for the record; a trial has no fingerprint."""
        self._profile = profile
        self._fingerprinted = fingerprinted and profile.device == "cpu"
        self._note = note
        self._reached: OpRecorder | None = None
        self._fingerprinting: FingerprintJob | None = None

    def watch(self, patches: Patches, guard: SettingsGuard) -> None:
        """Start; after seeding, and before the script. Not forked with a GPU, whose driver may be at work already."""
        if self._fingerprinted:
            self._fingerprinting = FingerprintJob()
        if self._profile.portable:
            self._reached = OpRecorder(guard)
            self._reached.install(patches)
            refuse_compiling(patches, guard)
            guard.refuse_unknown()
        else:
            refuse_weighted_bincount(patches, guard, self._profile.threads)

    def check(self) -> None:
        """Raise SettingError where a setting did not take effect, or the profile's promise cannot be kept here."""
        if self._fingerprinting is None:
            return
        found, self._fingerprinting = self._fingerprinting.finish(), None
        arithmetic = Arithmetic(
            digest=str(found.digest),
            operations=found.operations,
            onednn=found.onednn,
            openblas=openblas_core(),
            numpy_features=numpy_features(),
        )
        self._note(Environment(arithmetic=arithmetic))  # also where a setting is found that did not take effect
        self._note(Environment(settings=tuple(read_back_fingerprint(self._profile, found))))
        if self._profile.portable:
            check_proven(found, read_proven())

    def conclude(self) -> None:
        """Note the promise that the run kept to; says on stderr where it shrank."""
        self.check()
        self._note(Environment(guarantee=self._guarantee()))

    def _guarantee(self) -> PortabilityGuarantee:
        """The profile that the run keeps to, the operations it computed by, and those that keep it from a wider one."""
        if self._reached is None:
            return PortabilityGuarantee(profile=NATIVE)
        reached = computing(self._reached.operations)
        proven = read_proven()
        names = [name for name in reached if name not in proven.operations]
        if c_library() not in proven.libc:
            names.append(f"functions of the C library {c_library()}")
        if names:
            log(
                "this run promises the same bits on the same class of machine only; not proven to be portable:"
                f" {shorten(names, _SHOWN)}"
            )
        profile = NATIVE if names else PORTABLE
        return PortabilityGuarantee(profile=profile, operations=tuple(reached), unproven=tuple(names))


def fingerprint_of(profile: Profile) -> tuple[Fingerprint, list[str]]:
    """The fingerprint under a profile, where nothing is trained, and the operations that it computes by.

    Raises SettingError where a setting did not take effect.
    """
    with Patches() as patches:
        guard = prepare_environment(profile, patches)
        with quiet_import(Path(os.devnull)):
            import keras  # noqa: F401

        look_at_names().require(SETTINGS, *((OP_AUDIT, EXACT_OPS) if profile.portable else (OP_AUDIT,)))
        seed_everything(0, profile, patches)
        read_back_settings(profile)
        found = FingerprintJob().finish()
        read_back_fingerprint(profile, found)
        reached = OpRecorder(guard)
        reached.install(patches)
        fingerprint()
    return found, computing(reached.operations)


def check_proven(found: Fingerprint, proven: ProvenTable) -> None:
    """Raise SettingError where this machine, or other packages, compute otherwise than the table says."""
    import keras
    import numpy as np
    import tensorflow as tf

    versions = {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}
    if versions != proven.versions:
        wanted = ", ".join(f"{name} {version}" for name, version in proven.versions.items())
        raise SettingError(f"the portable profile is proven for {wanted} only; use the native profile")
    names = differing(found, proven)
    if names:
        raise SettingError(
            f"this machine computes {len(names)} of {len(found.operations)} operations otherwise than the portable"
            f" profile promises ({shorten(names, _SHOWN)}); use the native profile, and please report the CPU"
        )


def differing(found: Fingerprint, proven: ProvenTable) -> list[str]:
    """The operations that are not as in the table; of what an unknown C library computes, nothing can be said."""
    expected = proven.expected(c_library())
    if expected is not None:
        return found.differing(expected)
    of_libc = set().union(*proven.libc.values())
    return [name for name in found.differing(proven.fingerprint) if name not in of_libc]
