"""The portability guarantee of a run: what follows from the machine's fingerprint and the recorded operations."""

import os
from collections.abc import Callable
from pathlib import Path

from samebits.core.determinism_profile import NATIVE, PORTABLE, Profile
from samebits.core.environment import Arithmetic, Environment, PortabilityGuarantee
from samebits.core.errors import SettingError, shorten
from samebits.core.trial import ORDER_OF_SUMS
from samebits.runner.compat.features import EXACT_OPS, OP_AUDIT, ORDERED_SUMS, SETTINGS
from samebits.runner.compat.numpy_private import openblas_core
from samebits.runner.compat.patches import Patches
from samebits.runner.compat.self_test import read_private_names
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
from samebits.runner.determinism.ordered_sums import SumRecorder
from samebits.runner.determinism.settings import (
    numpy_features,
    prepare_environment,
    read_back_fingerprint,
    read_back_settings,
    seed_everything,
)
from samebits.runner.determinism.settings_guard import SettingsGuard
from samebits.runner.process.console import log
from samebits.runner.process.library_import import quiet_import
from samebits.runner.software import distributions, foreign_compiled_code

_SHOWN = 5


class PortabilityMonitor:
    """Computes the fingerprint while the script starts, checks it before the first step, and concludes at the end."""

    def __init__(
        self,
        profile: Profile,
        note: Callable[[Environment], None],
        *,
        fingerprinted: bool = True,
        expected: str | None = None,
    ) -> None:
        """`note` adds an observation to the record. A trial has no fingerprint.

        `expected` is the digest of the fingerprint that a resumed run must find, as the run before it did.
        """
        self._profile = profile
        self._expected = expected
        self._fingerprinted = fingerprinted and profile.device == "cpu"
        self._note = note
        self._recorder: OpRecorder | None = None
        self._sums = SumRecorder()
        self._fingerprint_job: FingerprintJob | None = None
        self._guard: SettingsGuard | None = None

    def watch(self, patches: Patches, guard: SettingsGuard) -> None:
        """Start the fingerprint and record operations. Call it after seeding, before the script."""
        # With a GPU nothing is forked: its driver may be running already.
        if self._fingerprinted:
            self._fingerprint_job = FingerprintJob()
        if self._profile.has(ORDER_OF_SUMS):
            self._sums.install(patches)
        if self._profile.portable:
            self._recorder = OpRecorder(guard)
            self._recorder.install(patches)
            refuse_compiling(patches, guard)
            guard.refuse_unknown()
        # A script may not raise a single thread, see the guard.
        if self._profile.threads > 1:
            refuse_weighted_bincount(patches, guard)
        self._guard = guard
        guard.watch_pools(patches, lambda made: self._note(Environment(script_settings=made)))

    def read_back(self) -> None:
        """Read every setting back. Raises SettingError where the script changed one that is not its own."""
        read_back_settings(self._profile, {} if self._guard is None else self._guard.pools)

    def check(self) -> None:
        """Raise SettingError where a setting did not take effect, or this machine computes unlike it must."""
        if self._fingerprint_job is None:
            return
        found, self._fingerprint_job = self._fingerprint_job.finish(), None
        arithmetic = Arithmetic(
            digest=str(found.digest),
            operations=found.operations,
            onednn=found.onednn,
            openblas=openblas_core(),
            numpy_features=numpy_features(),
        )
        # Noted before the next line can raise: the record then shows how the machine computes.
        self._note(Environment(arithmetic=arithmetic))
        self._note(Environment(settings=tuple(read_back_fingerprint(self._profile, found))))
        if self._profile.portable:
            check_proven(found, read_proven(), self._profile.threads)
        # The launcher may have compared a fingerprint from its cache.
        if self._expected not in (None, str(found.digest)):
            raise SettingError(
                "this machine computes differently from the one that the resumed run began on; resume it there, or"
                " train again"
            )

    def conclude(self) -> None:
        """Record the portability guarantee; a reduced one is reported on stderr."""
        self.check()
        self._note(Environment(guarantee=self._guarantee()))

    def _guarantee(self) -> PortabilityGuarantee:
        """The profile that the run satisfies, the operations it computed by, and those that reduce the guarantee."""
        unordered = sorted(self._sums.found)
        if unordered:
            log(f"timing decides the order of these sums, and maybe the result: {shorten(unordered, _SHOWN)}")
        if self._recorder is None:
            return PortabilityGuarantee(profile=NATIVE, unproven=tuple(unordered) or None)
        operations = computing(self._recorder.operations)
        proven = read_proven()
        names = [name for name in operations if name not in proven.operations]
        names = sorted({*names, *unordered})
        # NumPy calls the C library, and an unknown one was never compared.
        if c_library() not in proven.libc:
            names.append(f"functions of the C library {c_library()}")
        others = foreign_compiled_code()
        if others:
            log(f"the portability guarantee does not cover what these compute: {shorten(others, _SHOWN)}")
        if names:
            log(
                "the portability guarantee is reduced to the same CPU class; not proven to be portable:"
                f" {shorten(names, _SHOWN)}"
            )
        profile = NATIVE if names else PORTABLE
        return PortabilityGuarantee(
            profile=profile, operations=tuple(operations), unproven=tuple(names), not_covered=tuple(others)
        )


def fingerprint_of(profile: Profile) -> tuple[Fingerprint, list[str]]:
    """The fingerprint of this machine under a profile, and the operations that it computes by. Nothing is trained.

    Raises SettingError where a setting did not take effect.
    """
    with Patches() as patches:
        guard = prepare_environment(profile, patches)
        with quiet_import(Path(os.devnull)):
            import keras  # noqa: F401

        read_private_names().require(SETTINGS, ORDERED_SUMS, OP_AUDIT, *((EXACT_OPS,) if profile.portable else ()))
        seed_everything(0, profile, patches)
        read_back_settings(profile)
        # In a child, as in a run. The parent then computes it once more to record the operations.
        found = FingerprintJob().finish()
        read_back_fingerprint(profile, found)
        recorder = OpRecorder(guard)
        recorder.install(patches)
        fingerprint()
    return found, computing(recorder.operations)


def check_proven(found: Fingerprint, proven: ProvenTable, threads: int) -> None:
    """Raise SettingError where the package versions or the fingerprint differ from the proven table."""
    import keras
    import numpy as np
    import tensorflow as tf

    # The table holds for the versions it was generated with, and for no others. Packages that do not compute in
    # TensorFlow, Keras or NumPy may have any version.
    imported = {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}
    versions = {name: imported.get(name) or distributions().get(name) for name in proven.versions}
    if versions != proven.versions:
        wanted = ", ".join(f"{name} {version}" for name, version in proven.versions.items())
        raise SettingError(f"the portable profile is proven for {wanted} only; use the native profile")
    names = differing(found, proven, threads)
    if names:
        raise SettingError(
            f"this machine computes {len(names)} of {len(found.operations)} operations differently from the portable"
            f" profile's table ({shorten(names, _SHOWN)}); use the native profile, and please report the CPU"
        )


def differing(found: Fingerprint, proven: ProvenTable, threads: int) -> list[str]:
    """The operations that differ from the table. Under an unknown C library, its functions are left out."""
    expected = proven.expected(c_library(), threads)
    unknown = proven.fingerprint.keys() - expected.keys()
    return [name for name in found.differing(expected) if name not in unknown]
