"""The engine and the base that were chosen once."""

from pathlib import Path

import pytest

from samebits.core.errors import InputError
from samebits.host.engine_choice import apply_choice, choice_path

_CHOICE = 'docker_host = "unix:///e/docker.sock"\ndocker_config = "/e/config"\npath = "/e/bin"\nbase = "mine:1"\n'
_CHOSEN = {"DOCKER_HOST": "unix:///e/docker.sock", "DOCKER_CONFIG": "/e/config", "PATH": "/e/bin:/bin"}


@pytest.mark.parametrize(
    ("choice", "given", "expected"),
    [
        (None, {}, {}),
        (_CHOICE, {}, {**_CHOSEN, "SAMEBITS_BASE": "mine:1"}),
        # The shell's own choice wins, and the base belongs to the engine of the file.
        (_CHOICE, {"DOCKER_HOST": "tcp://other"}, {"DOCKER_HOST": "tcp://other"}),
        (_CHOICE, {"DOCKER_CONTEXT": "other"}, {"DOCKER_CONTEXT": "other"}),
        (_CHOICE, {"SAMEBITS_BASE": "other:2"}, {**_CHOSEN, "SAMEBITS_BASE": "other:2"}),
        (
            _CHOICE,
            {"DOCKER_HOST": "unix:///e/docker.sock"},
            {"DOCKER_HOST": "unix:///e/docker.sock", "SAMEBITS_BASE": "mine:1"},
        ),
        ('base = "mine:1"\n', {}, {"SAMEBITS_BASE": "mine:1"}),
        ('base = "mine:1"\n', {"DOCKER_HOST": "tcp://other"}, {"DOCKER_HOST": "tcp://other"}),
    ],
)
def test_the_choice_is_used(
    tmp_path: Path, choice: str | None, given: dict[str, str], expected: dict[str, str]
) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "PATH": "/bin"}
    if choice is not None:
        choice_path(environment).parent.mkdir()
        choice_path(environment).write_text(choice)
    found = environment | given
    apply_choice(found)
    assert found == environment | expected


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("docker_host = 3\n", "'docker_host' must be str, not 3"),
        ("x = 1\n", "unknown key 'x'"),
        ("=", "it is not TOML: "),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: str, complaint: str) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    choice_path(environment).parent.mkdir()
    choice_path(environment).write_text(content)
    with pytest.raises(InputError) as caught:
        apply_choice(environment)
    assert complaint in str(caught.value)
    assert str(caught.value).endswith("; `make engine` writes it again, or remove it")
