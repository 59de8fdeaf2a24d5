"""The environment variables that a script is meant to see: declared with `--env`, and part of the recipe."""

import re
from collections.abc import Iterable, Mapping

from samebits.core.errors import InputError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIAL = re.compile(
    r"SECRET|TOKEN|PASSW|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|(^|_)(AUTH|PWD)$", re.IGNORECASE
)
# Whole words, as `--tokens` and `--tokenizer` are no secrets.
_SECRET_OPTION = re.compile(
    r"(^|[-_])(secret|token|passwd|password|passphrase|credentials?|api[-_]?key|access[-_]?key|private[-_]?key|auth|pwd)$",
    re.IGNORECASE,
)
_OTHERS_READ_IT = re.compile(
    r"(PYTHON|LD_|GLIBC_|MALLOC_|SAMEBITS_|BLIS_|CUBLAS_|CUDA_|CUDNN_|DNNL_|KERAS_|MKL_|NPY_|NVIDIA_|OMP_|ONEDNN_"
    r"|OPENBLAS_|TF_|XLA_|LC_).*|HOME|KERAS_HOME|LANG|LANGUAGE|PATH|TMPDIR|TZ"
)


def resolve(declared: Iterable[str], caller: Mapping[str, str]) -> tuple[str, ...]:
    """`NAME=VALUE` for each declared `NAME=VALUE` or `NAME`, sorted; a later one wins.

    A bare name takes the caller's value. Raises InputError if it has none, and for a name that cannot be declared.
    """
    values: dict[str, str] = {}
    for item in declared:
        name, given, value = item.partition("=")
        check_name(name)
        if not given and name not in caller:
            raise InputError(f"the variable {name} is declared and has no value; set it, or write --env {name}=VALUE")
        values[name] = value if given else caller[name]
    return tuple(f"{name}={value}" for name, value in sorted(values.items()))


def credential_arguments(arguments: Iterable[str]) -> list[str]:
    """The options of a script whose names say that their value is a secret."""
    options = (item.partition("=")[0] for item in arguments if item.startswith("-"))
    return [option for option in options if _SECRET_OPTION.search(option)]


def check_name(name: str) -> None:
    """Raise InputError for a variable that a recipe cannot hold."""
    if not _NAME.fullmatch(name):
        raise InputError(f"--env takes NAME or NAME=VALUE, and {name!r} is no name of a variable")
    # The record would show the value to everyone who reads it.
    if _CREDENTIAL.search(name):
        raise InputError(
            f"the variable {name} looks like a credential, and a record shows its value; do not declare it"
        )
    if _OTHERS_READ_IT.fullmatch(name):
        raise InputError(
            f"the variable {name} is read by Python or a library, not by the script alone; drop it from env"
        )
