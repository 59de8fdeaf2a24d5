"""Variables that a script is meant to see: declared by name or with a value, and never a secret."""

import pytest

from samebits.core.declared_env import credential_arguments, resolve
from samebits.core.errors import InputError

_CALLER = {"LR": "0.5", "EMPTY": "", "OTHER": "x"}


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ((), ()),
        (("LR",), ("LR=0.5",)),
        (("LR=0.1",), ("LR=0.1",)),
        (("LR", "LR=0.1"), ("LR=0.1",)),
        (("LR=0.1", "LR"), ("LR=0.5",)),
        (("NOTE=a=b", "EMPTY", "LR"), ("EMPTY=", "LR=0.5", "NOTE=a=b")),
        (("NOTE=",), ("NOTE=",)),
    ],
)
def test_values(declared: tuple[str, ...], found: tuple[str, ...]) -> None:
    assert resolve(declared, _CALLER) == found


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("GONE", "the variable GONE is declared and has no value; set it, or write --env GONE=VALUE"),
        ("a b=1", "--env takes NAME or NAME=VALUE, and 'a b' is no name of a variable"),
        ("=1", "--env takes NAME or NAME=VALUE, and '' is no name of a variable"),
        (
            "HF_TOKEN=x",
            "the variable HF_TOKEN looks like a credential, and a record shows its value; do not declare it",
        ),
        (
            "PYTHONPATH=/x",
            "the variable PYTHONPATH is read by Python or a library, not by the script alone; drop it from env",
        ),
    ],
)
def test_what_cannot_be_declared(declared: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve((declared,), _CALLER)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "db_password", "API_KEY", "OPENAI_APIKEY", "BASIC_AUTH"])
def test_credentials(name: str) -> None:
    with pytest.raises(InputError, match="looks like a credential"):
        resolve((f"{name}=x",), {})


@pytest.mark.parametrize("name", ["LD_PRELOAD", "GLIBC_TUNABLES", "TF_X", "XLA_FLAGS", "SAMEBITS_DATA", "PATH", "HOME"])
def test_variables_of_others(name: str) -> None:
    with pytest.raises(InputError, match="is read by Python or a library"):
        resolve((f"{name}=x",), {})


@pytest.mark.parametrize("name", ["LR", "BATCH_SIZE", "KEY_SIZE", "TOPATH", "AUTHOR", "MONKEYS", "_x", "TFX"])
def test_ordinary_names(name: str) -> None:
    assert resolve((f"{name}=1",), {}) == (f"{name}=1",)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--api-key", "x", "--epochs", "3"), ["--api-key"]),
        (("--api_key=x", "--hf-token=y"), ["--api_key", "--hf-token"]),
        (("--tokenizer", "x", "--tokens", "3", "--author", "me", "--key", "3", "password"), []),
        (("--PASSWORD", "x", "-token"), ["--PASSWORD", "-token"]),
    ],
)
def test_arguments_that_look_like_secrets(arguments: tuple[str, ...], found: list[str]) -> None:
    assert credential_arguments(arguments) == found
