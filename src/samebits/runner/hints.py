"""What to do about an error that a script meets because it runs under samebits."""

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from samebits.core.distributions import distribution_of, how_to_add
from samebits.core.recipe import Code

_FOLDERS = ("src", ".")
"""Folders of a project that people put on the import path."""


_MEMORY = "the GPU has too little free memory: end what else uses it (`nvidia-smi` lists it), or use smaller batches"
_OF_GPUS = (
    ("oom when allocating tensor", f"{_MEMORY}; on the CPU, the machine's memory is meant"),
    ("cuda_error_out_of_memory", _MEMORY),
    ("failed to create cublas handle", _MEMORY),
    ("cublas_status_not_initialized", _MEMORY),
    ("cuda_error_no_binary_for_gpu", "the locked TensorFlow holds no code for this GPU; use one of 6.0 or later"),
    ("no kernel image is available", "a library holds no code for this GPU; use one of an architecture that it names"),
    ("cuda_error_unsupported_ptx_version", "the driver is too old to compile TensorFlow's kernels; upgrade it"),
    (
        "when determinism is enabled",
        "this operation has no deterministic form here; `samebits check --run` names others",
    ),
)
"""Fragments of what TensorFlow and CUDA say, in lower case, and what to do."""


def hint(error: BaseException, work: Path, code: Code) -> str | None:
    """One line for the error that ended a script, None where samebits knows no more than the error says."""
    return next(_hints(error, work, code), None)


def _hints(error: BaseException, work: Path, code: Code) -> Iterator[str]:
    if isinstance(error, KeyError) and error.args == ("SAMEBITS_DATA",):
        yield "this run has no data; name its folder with --data DIR"
    elif isinstance(error, ModuleNotFoundError) and error.name:
        yield _missing_module(error.name, work)
    elif isinstance(error, OSError) and error.errno == errno.ENOENT and isinstance(error.filename, str):
        yield from _missing_file(error.filename, work, code)
    else:
        # TensorFlow's errors differ in their text alone, and Keras wraps them in its own.
        text = str(error).lower()
        yield from (advice for fragment, advice in _OF_GPUS if fragment in text)


def _missing_module(name: str, work: Path) -> str:
    top = name.partition(".")[0]
    for folder in _FOLDERS:
        if os.path.isfile(work / folder / f"{top}.py") or os.path.isdir(work / folder / top):
            return f"{top} is in the code, but not on the import path; add --pythonpath {folder}"
    # Part of a package that is there: its version is the question, not its name.
    if top in sys.modules or top in sys.stdlib_module_names:
        return f"{top} is here, but has no {name}; another version of it may have"
    brings = f"the module {top} comes with {distribution_of(name)}, which is not among the run's packages"
    return f"{brings}: {how_to_add(name)}"


def _missing_file(name: str, work: Path, code: Code) -> Iterator[str]:
    """A file that is elsewhere: seen from the project's first folder, where many scripts expect to start, or data."""
    if os.path.isabs(name):
        return
    if code.workdir != "." and os.path.lexists(work / name):
        yield f"the script runs in {code.workdir}/, and {name} is found from the project's own folder; add --workdir ."
    data, parts = os.environ.get("SAMEBITS_DATA"), Path(name).parts
    if data and any(os.path.lexists(Path(data, *parts[start:])) for start in range(len(parts))):
        yield (
            f"{name} is in the data, whose folder is os.environ['SAMEBITS_DATA']; without --data, and without data in"
            " samebits.toml, a folder of the project keeps its place"
        )
