"""Private names of NumPy, and of the OpenBLAS that its wheels carry; seen in NumPy 2.4.6."""

import ctypes
from typing import Any


def global_random_state() -> Any:
    """The generator behind `np.random.normal` and its like, a `RandomState`."""
    import numpy as np

    return np.random.mtrand._rand


def cpu_features() -> dict[str, bool]:
    """Which groups of CPU instructions NumPy uses, by name."""
    from numpy._core._multiarray_umath import __cpu_features__

    return dict(__cpu_features__)


def kernel_features() -> list[str]:
    """The groups of CPU instructions for which this build has kernels of their own."""
    from numpy._core._multiarray_umath import __cpu_baseline__, __cpu_dispatch__

    return [*__cpu_baseline__, *__cpu_dispatch__]


def openblas_threads() -> int | None:
    """The threads of the OpenBLAS that NumPy has loaded; None where it uses another library."""
    function = _openblas("scipy_openblas_get_num_threads64_")
    return None if function is None else int(function())


def openblas_core() -> str | None:
    """The CPU whose kernels that OpenBLAS uses."""
    function = _openblas("scipy_openblas_get_corename64_")
    if function is None:
        return None
    function.restype = ctypes.c_char_p
    return str(function().decode())


def _openblas(name: str) -> Any:
    """A function of the library itself; what it returns is read back, so the self-test does not ask for it."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        paths = {line.split(maxsplit=5)[-1].rstrip("\n") for line in file if "openblas" in line}
    found = (getattr(ctypes.CDLL(path), name, None) for path in sorted(paths))
    return next((function for function in found if function is not None), None)
