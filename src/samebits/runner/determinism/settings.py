"""Apply the settings of a profile, and read each one back from the library that uses it."""

import functools
import os
import random
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from samebits.core.determinism_profile import GPU_SETTINGS, Profile
from samebits.core.environment import ReadBack
from samebits.core.errors import SettingError
from samebits.core.trial import CACHE_SIZES, EXACT_OPERATIONS, GRAPH_REWRITES, OP_DETERMINISM, ORDER_OF_SUMS, SEEDS
from samebits.runner.compat import keras_private, tensorflow_private, tensorflow_random
from samebits.runner.compat.library_caches import asked_caches, pin_caches, pinned_caches
from samebits.runner.compat.numpy_private import cpu_features, kernel_features, openblas_core, openblas_threads
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism import exact_ops as exact
from samebits.runner.determinism.fingerprint import Fingerprint
from samebits.runner.determinism.ordered_sums import order_sums, sums_are_ordered
from samebits.runner.determinism.settings_guard import HARMLESS_VARIABLES, LIBRARY_PREFIXES, POOLS, SettingsGuard


def prepare_environment(profile: Profile, patches: Patches, code: Path | None = None) -> SettingsGuard:
    """Check and set the environment variables, and guard them from then on. Call it before TensorFlow is imported.

    Raises SettingError for a variable that contradicts the profile. PYTHONHASHSEED must be set already: Python reads it
    when it starts. `code` is the folder of the script, whose lines are named.
    """
    profile.check(os.environ, "the environment")
    check_variables(os.environ, profile)
    # Setting it now would have no effect.
    if profile.has("PYTHONHASHSEED") and _hash_seed() != profile.hash_seed:
        raise SettingError(
            f"PYTHONHASHSEED={profile.hash_seed} was not set when Python started; start through the image or"
            " `samebits train`"
        )
    os.environ.update(profile.variables)
    guard = SettingsGuard(profile, code)
    guard.install(patches)
    return guard


def check_variables(environment: Mapping[str, str], profile: Profile) -> None:
    """Raise SettingError for a variable that a library may read and that no recipe holds."""
    known = profile.variables.keys() | HARMLESS_VARIABLES
    # The GPU image sets these also where it runs on a CPU.
    baked = {item.name: item.value for item in GPU_SETTINGS}
    for name in sorted(environment.keys() - known):
        if name.startswith(LIBRARY_PREFIXES) and environment[name] != baked.get(name):
            raise SettingError(
                f"the environment sets {name}={environment[name]}, which may change bits and is part of no recipe;"
                " remove it, or set it in the script"
            )


def seed_everything(seed: int, profile: Profile, patches: Patches) -> None:
    """Seed Python, NumPy, TensorFlow and Keras, and apply all settings that TensorFlow takes after its import.

    TensorFlow's context stays uninitialised, so the script can still configure its devices.
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
    _replace_operations(profile, patches)
    if profile.has(SEEDS):
        keras.utils.set_random_seed(seed)


def _replace_operations(profile: Profile, patches: Patches) -> None:
    """These need TensorFlow, so the environment cannot set them."""
    if profile.has(ORDER_OF_SUMS):
        order_sums(patches)
    if profile.portable and profile.has(GRAPH_REWRITES):
        exact.switch_rewrites_off()
    if profile.portable and profile.has(EXACT_OPERATIONS):
        exact.install_exact_ops(patches)
    if profile.portable and profile.has(CACHE_SIZES):
        pin_caches()


def read_back_seeds(seed: int) -> list[ReadBack]:
    """Read the four generators' seeds back, right after seeding. Raises SettingError where one differs."""
    import numpy as np

    asked = str(seed)
    python = seed if random.getstate() == random.Random(seed).getstate() else "another state"  # noqa: S311
    # NumPy keeps no seed: its state is compared with that of a generator with the same seed.
    state, fresh = (generator.get_state()[1] for generator in (np.random, np.random.RandomState(seed)))
    numpy = seed if np.array_equal(state, fresh) else "another state"
    found: tuple[tuple[str, Any, str], ...] = (
        ("seed of Python", python, "random.getstate"),
        ("seed of NumPy", numpy, "numpy.random.get_state"),
        ("seed of TensorFlow", tensorflow_random.tensorflow_seed(), "tensorflow context"),
    )
    # Earlier versions of Keras draw from Python's generator alone.
    if keras_private.keeps_seed():
        found += (("seed of Keras", keras_private.keras_seed(), "keras global state"),)
    return _checked(ReadBack(name=name, asked=asked, found=str(value), by=by) for name, value, by in found)


def read_back_settings(profile: Profile, pools: Mapping[str, int] = MappingProxyType({})) -> list[ReadBack]:
    """Read every setting back from the library that uses it, at any time. Raises SettingError where one differs.

    `pools` are the thread pools whose sizes the script chose itself.
    """
    return _checked(setting for setting in _settings(profile, pools) if profile.has(setting.name))


def read_back_keras() -> list[ReadBack]:
    """Read back what a `keras.json` could change. Call it before the script runs. Raises SettingError."""
    import keras

    found = (
        ("Keras floatx", "float32", keras.config.floatx()),
        ("Keras epsilon", "1e-07", keras.config.epsilon()),
        ("Keras image_data_format", "channels_last", keras.config.image_data_format()),
    )
    return _checked(
        ReadBack(name=name, asked=asked, found=str(value), by="keras.config") for name, asked, value in found
    )


def _settings(profile: Profile, pools: Mapping[str, int]) -> Iterator[ReadBack]:
    import keras
    import tensorflow as tf

    # Name, expected value, found value, and where it was read. Trials leave some of them out.
    intra, inter = (str(pools.get(name, profile.threads)) for name in POOLS)
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
        ("TF_NUM_INTRAOP_THREADS", intra, threading.get_intra_op_parallelism_threads(), "tf.config.threading"),
        ("TF_NUM_INTEROP_THREADS", inter, threading.get_inter_op_parallelism_threads(), "tf.config.threading"),
        (OP_DETERMINISM, "True", tensorflow_private.op_determinism_is_on(), "tensorflow config"),
        (ORDER_OF_SUMS, "fixed", "fixed" if sums_are_ordered() else "by timing", "tf.config.optimizer, tf.raw_ops"),
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
            (CACHE_SIZES, asked_caches(), pinned_caches(), "memory of Eigen and oneDNN"),
        )
    return (ReadBack(name=name, asked=asked, found=str(value), by=by) for name, asked, value, by in found)


def read_back_fingerprint(profile: Profile, found: Fingerprint) -> list[ReadBack]:
    """Read back what only a process that computes can see. Raises SettingError where a setting did not take effect."""
    threads = str(profile.threads)
    settings = [
        ReadBack(name="intra-op threads", asked=threads, found=str(found.intra_threads), by="/proc/self/task"),
        ReadBack(name="inter-op threads", asked=threads, found=str(found.inter_threads), by="/proc/self/task"),
    ]
    if not tensorflow_private.names_its_threads():
        # The two pools cannot be told from each other. `tf.config.threading` is read back all the same.
        settings = []
    if profile.portable:
        settings.append(
            ReadBack(name="oneDNN's instructions", asked="Intel AVX2", found=found.onednn, by="oneDNN's verbose line")
        )
    return _checked(iter(settings))


def numpy_features() -> tuple[str, ...]:
    """The CPU instruction groups for which NumPy has, and uses, kernels."""
    used = cpu_features()
    return tuple(name for name in kernel_features() if used[name])


def numpy_disabled(features: str) -> str:
    """Which of these comma-separated features NumPy does not use."""
    used = cpu_features()
    return ",".join(name for name in features.split(",") if not used.get(name, True))


def _checked(found: Iterator[ReadBack]) -> list[ReadBack]:
    """All settings. Raises SettingError, which lists those that did not take effect."""
    settings = list(found)
    wrong = [
        f"{item.name} was set to {item.asked} but reads back as {item.found}"
        for item in settings
        if item.asked != item.found
    ]
    if wrong:
        raise SettingError(
            f"{'; '.join(wrong)}: the script or the environment changed a determinism setting; remove that change"
        )
    return settings


# Cached early: the value cannot change, but libraries overwrite the memory it is read from.
@functools.cache
def _hash_seed() -> str:
    """PYTHONHASHSEED as it was when the interpreter started; `random` where the interpreter did not use it."""
    with open("/proc/self/environ", "rb") as file:
        given = dict(item.partition(b"=")[::2] for item in file.read().split(b"\0"))
    seed = given.get(b"PYTHONHASHSEED", b"").decode(errors="replace")
    return seed if seed.isdecimal() and bool(sys.flags.hash_randomization) == (seed != "0") else "random"


def read_back_all(seed: int, profile: Profile) -> tuple[ReadBack, ...]:
    """Every setting as found. Raises SettingError where one did not take effect."""
    settings = [*read_back_settings(profile), *read_back_keras()]
    if profile.has(SEEDS):
        settings += read_back_seeds(seed)
    return tuple(settings)
