"""Apply the settings of a profile, and read each one back from the library that must obey it."""

import functools
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from samebits.core.determinism_profile import GPU_SETTINGS, Profile
from samebits.core.environment import ReadBack
from samebits.core.errors import SettingError
from samebits.core.trial import EXACT_OPERATIONS, GRAPH_REWRITES, OP_DETERMINISM, SEEDS
from samebits.runner.compat import keras_private, tensorflow_private
from samebits.runner.compat.numpy_private import cpu_features, kernel_features, openblas_core, openblas_threads
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism import exact_ops as exact
from samebits.runner.determinism.fingerprint import Fingerprint


def prepare_environment(profile: Profile, patches: Patches) -> "SettingsGuard":
    """Check the environment before TensorFlow is imported, and guard it from then on.

    Raises SettingError where one contradicts the profile, or is missing and only image or launcher can give it.
    """
    profile.check(os.environ, "the environment")
    check_variables(os.environ, profile)
    if profile.has("PYTHONHASHSEED") and _hash_seed() != profile.hash_seed:
        raise SettingError(
            f"PYTHONHASHSEED={profile.hash_seed} was not set when Python started; start through the image or"
            " `samebits train`"
        )
    os.environ.update(profile.variables)
    guard = SettingsGuard(profile)
    guard.install(patches)
    return guard


_DECIDING = (
    "BLIS_",
    "CUBLAS_",
    "CUDNN_",
    "DNNL_",
    "KERAS_",
    "MKL_",
    "NPY_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "TF_",
    "XLA_",
)
_HARMLESS = {"KERAS_HOME", "TF_CPP_MIN_LOG_LEVEL", "TF_CPP_MAX_VLOG_LEVEL"}


def check_variables(environment: Mapping[str, str], profile: Profile) -> None:
    """Raise SettingError for a variable that a library may compute by and that no profile knows: it is in no recipe."""
    known = profile.variables.keys() | _HARMLESS
    baked = {item.name: item.value for item in GPU_SETTINGS}  # the GPU image has them on a CPU, too
    for name in sorted(environment.keys() - known):
        if name.startswith(_DECIDING) and environment[name] != baked.get(name):
            raise SettingError(
                f"the environment sets {name}={environment[name]}, which may change bits and is part of no recipe;"
                " remove it, or set it in the script"
            )


class SettingsGuard:
    """Stops a script that sets a pinned variable to something else: TensorFlow has read it already, or would obey."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._names = {setting.name for setting in profile.settings}
        self._stopped: SettingError | None = None
        self._strict = False

    def check(self) -> None:
        """Raise again what was raised in the script, which may have caught it."""
        if self._stopped is not None:
            raise self._stopped

    def refuse_unknown(self) -> None:
        """From here on also stop one that sets a variable that a library may compute by; NumPy's own import does."""
        self._strict = True

    def stop(self, message: str) -> NoReturn:
        """Raise SettingError in the script, and remember it."""
        self._stopped = SettingError(message)
        raise self._stopped

    def install(self, patches: Patches) -> None:
        """Watch the two functions that `os.environ` goes through; an audit hook would slow much else down."""
        for name in ("putenv", "unsetenv"):
            patches.wrap((os, name), self._guarded)

    def _guarded(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def guarded(*arguments: str | bytes) -> None:
            name, value = (os.fsdecode(argument) for argument in (*arguments, "(nothing)")[:2])
            if name in self._names:
                self._refuse({name: value})
            elif self._strict and name.startswith(_DECIDING) and name not in _HARMLESS:
                self.stop(
                    f"the script sets {name}={value}, which may change bits: the portable profile cannot promise"
                    " them; remove it, or use the native profile"
                )
            original(*arguments)

        return guarded

    def _refuse(self, setting: Mapping[str, str]) -> None:
        """Raise SettingError where a setting is not the profile's."""
        try:
            self._profile.check(setting, "the script")
        except SettingError as error:
            self._stopped = error
            raise


def seed_everything(seed: int, profile: Profile, patches: Patches) -> None:
    """Seed Python, NumPy, TensorFlow and Keras, switch op determinism on, fix the thread pools, take exact operations.

    Leaves TensorFlow's context uninitialised, so that a script may still configure its devices.
    """
    import keras
    import tensorflow as tf

    if profile.has(OP_DETERMINISM):
        tf.config.experimental.enable_op_determinism()
    if profile.device == "gpu" and profile.has("NVIDIA_TF32_OVERRIDE"):
        tf.config.experimental.enable_tensor_float_32_execution(enabled=False)
    if profile.has("TF_NUM_INTRAOP_THREADS"):
        tf.config.threading.set_intra_op_parallelism_threads(profile.threads)
    if profile.has("TF_NUM_INTEROP_THREADS"):
        tf.config.threading.set_inter_op_parallelism_threads(profile.threads)
    if profile.portable and profile.has(GRAPH_REWRITES):
        exact.switch_rewrites_off()
    if profile.portable and profile.has(EXACT_OPERATIONS):
        exact.install(patches)
    if profile.has(SEEDS):
        keras.utils.set_random_seed(seed)


def read_back_seeds(seed: int) -> list[ReadBack]:
    """The four generators' seeds; only right after seeding, before anything is drawn. Raises SettingError."""
    import numpy as np

    asked = str(seed)
    python = seed if random.getstate() == random.Random(seed).getstate() else "another state"  # noqa: S311
    state, fresh = (generator.get_state()[1] for generator in (np.random, np.random.RandomState(seed)))
    numpy = seed if np.array_equal(state, fresh) else "another state"
    found = (
        ("seed of Python", python, "random.getstate"),
        ("seed of NumPy", numpy, "numpy.random.get_state"),
        ("seed of TensorFlow", tensorflow_private.global_seed(), "tensorflow context"),
        ("seed of Keras", keras_private.global_seed(), "keras global state"),
    )
    return _checked(ReadBack(name=name, asked=asked, found=str(value), by=by) for name, value, by in found)


def read_back_settings(profile: Profile) -> list[ReadBack]:
    """Every setting from the library that uses it; can be asked at any time. Raises SettingError where one differs."""
    return _checked(setting for setting in _settings(profile) if profile.has(setting.name))


def read_back_keras() -> list[ReadBack]:
    """What a `keras.json` could change; only before the script, which may change it itself. Raises SettingError."""
    import keras

    found = (
        ("Keras floatx", "float32", keras.config.floatx()),
        ("Keras epsilon", "1e-07", keras.config.epsilon()),
        ("Keras image_data_format", "channels_last", keras.config.image_data_format()),
    )
    return _checked(
        ReadBack(name=name, asked=asked, found=str(value), by="keras.config") for name, asked, value in found
    )


def _settings(profile: Profile) -> Iterator[ReadBack]:
    import keras
    import tensorflow as tf

    threads = str(profile.threads)
    threading = tf.config.threading
    found: tuple[tuple[str, str, Any, str], ...] = (
        ("PYTHONHASHSEED", profile.hash_seed, _hash_seed(), "sys.flags"),
        ("PYTHONNOUSERSITE", "1", sys.flags.no_user_site, "sys.flags"),
        ("TF_ENABLE_ONEDNN_OPTS", "1", int(tensorflow_private.onednn_is_on()), "tensorflow port"),
        ("OPENBLAS_NUM_THREADS", "1", openblas_threads(), "openblas_get_num_threads"),
        ("KERAS_BACKEND", "tensorflow", keras.backend.backend(), "keras.backend.backend"),
        ("LC_ALL", "C.UTF-8", os.environ.get("LC_ALL"), "os.environ"),
        ("TZ", "UTC", os.environ.get("TZ"), "os.environ"),
        (
            "ONEDNN_MAX_CPU_ISA",
            profile.variables.get("ONEDNN_MAX_CPU_ISA", ""),
            os.environ.get("ONEDNN_MAX_CPU_ISA"),
            "os.environ",
        ),
        ("TF_NUM_INTRAOP_THREADS", threads, threading.get_intra_op_parallelism_threads(), "tf.config.threading"),
        ("TF_NUM_INTEROP_THREADS", threads, threading.get_inter_op_parallelism_threads(), "tf.config.threading"),
        (OP_DETERMINISM, "True", tensorflow_private.op_determinism_is_on(), "tensorflow config"),
    )
    if profile.device == "gpu":
        if profile.has("NVIDIA_TF32_OVERRIDE"):  # one setting, read back in two places
            tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
            found += (("TF32", "False", tf32, "tf.config.experimental"),)
        found += tuple((item.name, item.value, os.environ.get(item.name), "os.environ") for item in GPU_SETTINGS)
    if profile.portable:
        asked = profile.variables.get("NPY_DISABLE_CPU_FEATURES", "")
        core = profile.variables.get("OPENBLAS_CORETYPE", "")
        found += (
            ("NPY_DISABLE_CPU_FEATURES", asked, numpy_disabled(asked), "numpy __cpu_features__"),
            ("OPENBLAS_CORETYPE", core, openblas_core(), "openblas_get_corename"),
            (GRAPH_REWRITES, "off", "off" if exact.rewrites_are_off() else "on", "tf.config.optimizer"),
            (EXACT_OPERATIONS, "True", exact.still_installed(), "tf.math"),
        )
    return (ReadBack(name=name, asked=asked, found=str(value), by=by) for name, asked, value, by in found)


def read_back_fingerprint(profile: Profile, found: Fingerprint) -> list[ReadBack]:
    """What only a process that has computed can tell. Raises SettingError where a setting did not take effect."""
    threads = str(profile.threads)
    settings = [
        ReadBack(name="intra-op threads", asked=threads, found=str(found.intra_threads), by="/proc/self/task"),
        ReadBack(name="inter-op threads", asked=threads, found=str(found.inter_threads), by="/proc/self/task"),
    ]
    if profile.portable:
        settings.append(
            ReadBack(name="oneDNN's instructions", asked="Intel AVX2", found=found.onednn, by="oneDNN's verbose line")
        )
    return _checked(iter(settings))


def numpy_features() -> tuple[str, ...]:
    """The groups of instructions for which NumPy has kernels of their own, and uses them."""
    used = cpu_features()
    return tuple(name for name in kernel_features() if used[name])


def numpy_disabled(features: str) -> str:
    """Those of the features, with commas between them, that NumPy does not use."""
    used = cpu_features()
    return ",".join(name for name in features.split(",") if not used.get(name, True))


def _checked(found: Iterator[ReadBack]) -> list[ReadBack]:
    """All of them, or the error that names those that did not take effect."""
    settings = list(found)
    wrong = [
        f"{item.name} was asked as {item.asked} and found as {item.found}"
        for item in settings
        if item.asked != item.found
    ]
    if wrong:
        raise SettingError(
            f"{'; '.join(wrong)}: the script or the environment changed a determinism setting; remove that change"
        )
    return settings


@functools.cache  # it cannot change, but libraries write over that memory
def _hash_seed() -> str:
    """What PYTHONHASHSEED was when the interpreter started; the flag tells whether it looked."""
    with open("/proc/self/environ", "rb") as file:
        given = dict(item.partition(b"=")[::2] for item in file.read().split(b"\0"))
    seed = given.get(b"PYTHONHASHSEED", b"").decode(errors="replace")
    return seed if seed.isdecimal() and bool(sys.flags.hash_randomization) == (seed != "0") else "random"
