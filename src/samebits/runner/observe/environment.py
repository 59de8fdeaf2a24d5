"""The machine and the software of a run. Host names, and variables outside the allowlist, are never recorded."""

import os
import platform
import sys
from collections.abc import Mapping

from samebits.core.cpu_info import describe_cpu
from samebits.core.environment import ObservedSystem
from samebits.core.gpu_info import read_gpus
from samebits.core.recipe import Device
from samebits.runner.software import distributions

_ALLOWED_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_TF32_OVERRIDE",
    "NVIDIA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "TF_CPP_MIN_LOG_LEVEL",
    "XLA_FLAGS",
)
"""The variables that are recorded in addition to the profile's settings. All others may hold secrets."""


def observe_environment(device: Device) -> ObservedSystem:
    """Versions and hardware. On a GPU, TensorFlow must have opened its devices.

    Raises SettingError where this process sees another GPU than the recipe names.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    gpus = read_gpus(multiprocessors=device.kind == "gpu")
    gpus.check_recipe(device)
    build = tf.sysconfig.get_build_info()
    return ObservedSystem(
        python=platform.python_version(),
        implementation=sys.implementation.name,
        tensorflow=tf.__version__,
        keras=keras.__version__,
        numpy=np.__version__,
        cuda_built_for=build.get("cuda_version"),
        cudnn_built_for=build.get("cudnn_version"),
        distributions=distributions(),
        system=_system(),
        kernel=platform.release(),
        machine=platform.machine(),
        libc=" ".join(platform.libc_ver()),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cpu=describe_cpu(),
        gpu=gpus,
        variables=recorded_variables(os.environ),
    )


def recorded_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are on the allowlist. All others may hold secrets."""
    return {name: environment[name] for name in _ALLOWED_VARIABLES if name in environment}


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return platform.system()
