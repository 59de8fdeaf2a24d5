"""Arguments of the script whose values no record holds: `train --redact NAME`.

The recipe has `[redacted]` in their place, and for each a digest that a recorded recipe can be compared by. It is
scrypt's, salted with name and code: of 32 MiB and a tenth of a second for each guess. A value that can be guessed in a
million tries is found all the same. The value itself goes from the launcher to the script's process in a variable.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from samebits.core.digest import Digest
from samebits.core.errors import InputError

VARIABLE = "SAMEBITS_REDACTED"
"""With the values for the runner, as JSON; the script does not see it."""

PLACEHOLDER = "[redacted]"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def redact(arguments: Sequence[str], names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The arguments with placeholders, and the values by name; raises InputError for an option that is not there."""
    values: dict[str, str] = {}
    given = list(arguments)
    for name in dict.fromkeys(item.lstrip("-") for item in names):
        if not _NAME.fullmatch(name):
            raise InputError(f"--redact takes the name of an option of the script, such as api-key, not {name!r}")
        found = list(_places(given, name))
        if len(found) != 1 or not found[0][1] or found[0][1] == PLACEHOLDER:
            raise InputError(f"--redact {name}: give the script --{name} once after --, with a value")
        ((place, value),) = found
        values[name] = _utf8(name, value)
        given[place] = f"--{name}={PLACEHOLDER}" if given[place].startswith(f"--{name}=") else PLACEHOLDER
    # The same text in another argument would give it away.
    for name, value in values.items():
        if any(value in item for item in given):
            raise InputError(f"--redact {name}: its value is in another argument, too; redact that one as well")
    return tuple(given), values


def _utf8(name: str, value: str) -> str:
    """The value; raises InputError, which does not show it, where UTF-8 cannot encode it."""
    if value != value.encode("utf-8", "replace").decode():
        raise InputError(f"the value of --{name} is not UTF-8, and a redacted value must be; give it another")
    return value


def require_absent(values: Mapping[str, str], arguments: Iterable[str], file: str) -> None:
    """Raise InputError for a value among the arguments in a file that is copied into the run."""
    given = list(arguments)
    for name, value in values.items():
        if any(value in item for item in given):
            raise InputError(
                f"--redact {name}: its value is in the arguments of {file}, which is copied into the run;"
                " remove it there, and give it after --"
            )


def restored(arguments: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The arguments with the values in place of the placeholders."""
    given = list(arguments)
    for name, value in values.items():
        for place, _ in list(_places(given, name)):
            given[place] = f"--{name}={value}" if given[place].startswith(f"--{name}=") else value
    return given


def _places(arguments: Sequence[str], name: str) -> Iterator[tuple[int, str]]:
    """Where an option has its values: the index of the argument that holds it, and the value."""
    for index, item in enumerate(arguments):
        if item.startswith(f"--{name}="):
            yield index, item.partition("=")[2]
        elif item == f"--{name}" and index + 1 < len(arguments):
            yield index + 1, arguments[index + 1]


def digests(values: Mapping[str, str], tree: Digest) -> dict[str, str]:
    """What the recipe holds of each value."""
    found = {}
    for name, value in sorted(values.items()):
        salt = f"samebits {tree} {name}".encode()
        # 32 MiB and a tenth of a second.
        digest = hashlib.scrypt(value.encode(), salt=salt, n=1 << 15, r=8, p=1, maxmem=1 << 26, dklen=32)
        found[name] = f"scrypt:{digest.hex()}"
    return found


def given_again(names: Iterable[str], caller: Mapping[str, str]) -> dict[str, str]:
    """The values for a recorded run, from the caller's environment; raises InputError for a missing one."""
    values = {}
    for name in names:
        variable = value_variable(name)
        if not caller.get(variable):
            raise InputError(f"the record does not hold the value of --{name}; set {variable} to it, and try again")
        values[name] = _utf8(name, caller[variable])
    return values


def value_variable(name: str) -> str:
    """The variable that gives the value of a recorded option again."""
    return f"{VARIABLE}_{re.sub('[^A-Za-z0-9]', '_', name).upper()}"


def to_variable(values: Mapping[str, str]) -> dict[str, str]:
    """The variable for the runner; none where nothing is redacted."""
    return {VARIABLE: json.dumps(dict(values))} if values else {}


def hide(text: str, values: Mapping[str, str]) -> str:
    """A text without the values, also where they are shown with escapes."""
    for value in forms(values.values()):
        text = text.replace(value, PLACEHOLDER)
    return text


def forms(values: Iterable[str]) -> list[str]:
    """The values as they are and as Python and JSON show them, the longest first."""
    found = set()
    for value in values:
        found |= {value, repr(value)[1:-1], ascii(value)[1:-1]}
        found |= {json.dumps(value, ensure_ascii=escaped)[1:-1] for escaped in (True, False)}
    return sorted(found, key=lambda shown: (-len(shown), shown))
