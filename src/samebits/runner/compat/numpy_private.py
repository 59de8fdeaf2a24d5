"""Private names of NumPy, and of the OpenBLAS in its wheels, tested with NumPy 2.4.6."""

import ctypes
from typing import Any


def global_random_state() -> Any:
    """The `RandomState` behind `np.random.normal` and the other functions of that module."""
    import numpy as np

    return np.random.mtrand._rand


def cpu_features() -> dict[str, bool]:
    """Whether NumPy uses each CPU instruction group, by name."""
    from numpy._core._multiarray_umath import __cpu_features__

    return dict(__cpu_features__)


def kernel_features() -> list[str]:
    """The CPU instruction groups for which this build has kernels."""
    from numpy._core._multiarray_umath import __cpu_baseline__, __cpu_dispatch__

    return [*__cpu_baseline__, *__cpu_dispatch__]


def openblas_threads() -> int | None:
    """The number of threads of NumPy's OpenBLAS; None where NumPy uses another library."""
    function = _openblas("scipy_openblas_get_num_threads64_")
    return None if function is None else int(function())


def openblas_core() -> str | None:
    """The CPU whose kernels NumPy's OpenBLAS uses; None where NumPy uses another library."""
    function = _openblas("scipy_openblas_get_corename64_")
    if function is None:
        return None
    function.restype = ctypes.c_char_p
    return str(function().decode())


def _openblas(name: str) -> Any:
    """A function of the loaded library. Its result is read back, so the self-test does not cover its name."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        paths = {line.split(maxsplit=5)[-1].rstrip("\n") for line in file if "openblas" in line}
    found = (getattr(ctypes.CDLL(path), name, None) for path in sorted(paths))
    return next((function for function in found if function is not None), None)
