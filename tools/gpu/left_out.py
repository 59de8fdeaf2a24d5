"""What of the locked wheels is never loaded where one GPU trains, and why: it does not travel.

Nothing that a training may load is on this list. It was checked by the libraries' NEEDED entries, by the names that
they pass to `dlopen`, and by the files that are mapped after importing TensorFlow, `fit`, saving and XLA on a CPU.
"""

from fnmatch import fnmatch

_HEADERS = "headers and build files for compiling extensions"
_STATIC = "static libraries, for linking"
_TESTS = "tests and documentation"
_BYTECODE = "compiled anew on the other side"

LEFT_OUT: tuple[tuple[str, str], ...] = (
    ("tensorflow/include/*", _HEADERS),
    ("nvidia/*/include/*", _HEADERS),
    ("nvidia/*/lib/cmake/*", _HEADERS),
    ("*.a", _STATIC),
    ("*.pyc", _BYTECODE),
    ("numpy/*/tests/*", _TESTS),
    ("h5py/tests/*", _TESTS),
    ("libclang-*.data/*", "parses C++; no module of TensorFlow imports it"),
    ("clang/*", "parses C++; no module of TensorFlow imports it"),
    ("nvidia/nccl/lib/*", "collectives among several GPUs; TensorFlow opens it at the first of them"),
    ("nvidia/cusolver/lib/libcusolverMg.so*", "cuSOLVER on several GPUs; nothing needs or opens it"),
    ("nvidia/cufft/lib/libcufftw.so*", "the interface of FFTW; nothing needs or opens it"),
    ("nvidia/cublas/lib/libnvblas.so*", "takes over calls of another BLAS; nothing needs or opens it"),
    ("nvidia/cuda_cupti/lib/libnvperf*", "counters of NVIDIA's profilers"),
    ("nvidia/cuda_cupti/lib/libcheckpoint.so*", "counters of NVIDIA's profilers"),
    ("nvidia/cuda_cupti/lib/libpcsamplingutil.so*", "counters of NVIDIA's profilers"),
    ("nvidia/cuda_nvcc/bin/nvcc*", "the compiler's driver; XLA calls ptxas, fatbinary and nvlink"),
    ("nvidia/cuda_nvcc/bin/cudafe++", "the compiler's front end"),
    ("nvidia/cuda_nvcc/nvvm/bin/cicc", "the compiler's front end"),
    ("tensorflow/compiler/mlir/stablehlo/stablehlo_extension.so", "converts models for TensorFlow Lite"),
)
"""Patterns of paths in site-packages, with the reason."""


def reason(path: str) -> str | None:
    """Why a file does not travel; None for one that does."""
    return next((why for pattern, why in LEFT_OUT if fnmatch(path, pattern)), None)
