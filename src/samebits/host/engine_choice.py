"""The engine and the base image that the user chose once, with `make engine`: kept in a file, used by every command.

The file is `~/.config/samebits/engine.toml`. A variable that is set in the shell wins over it.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

from samebits.core.errors import InputError, RecordError, reason_of
from samebits.core.jsonio import Fields
from samebits.core.toml_file import read_toml

_KEYS = ("docker_host", "docker_config", "path", "base")
_OTHER_CHOICES = ("DOCKER_HOST", "DOCKER_CONTEXT")
"""Variables with which the shell names an engine itself."""


def choice_path(environment: MutableMapping[str, str] = os.environ) -> Path:
    """Where the choice is kept."""
    base = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "samebits" / "engine.toml"


def apply_choice(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables that name the chosen engine and base, unless the shell has set them. Raises InputError."""
    path = choice_path(environment)
    choice = _read(path)
    host = choice.get("docker_host")
    if host and not any(environment.get(name) for name in _OTHER_CHOICES):
        environment["DOCKER_HOST"] = host
        if "docker_config" in choice:
            environment["DOCKER_CONFIG"] = choice["docker_config"]
        if "path" in choice:
            environment["PATH"] = f"{choice['path']}{os.pathsep}{environment.get('PATH', os.defpath)}"
    # Another engine than the chosen one may not have that base.
    if "base" in choice and environment.get("DOCKER_HOST", "") == (host or ""):
        environment.setdefault("SAMEBITS_BASE", choice["base"])


def _read(path: Path) -> dict[str, str]:
    try:
        return _values(Fields(read_toml(path, anywhere=True)))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecordError) as error:
        raise InputError(
            f"cannot read {path}: {reason_of(error)}; `make engine` writes it again, or remove it"
        ) from error


def _values(fields: Fields) -> dict[str, str]:
    if unknown := sorted(fields.names() - set(_KEYS)):
        raise RecordError(f"unknown key {unknown[0]!r}")
    return {name: fields.get(name, str) for name in _KEYS if name in fields.given()}
