"""What a script used that no recipe names, with the place in the script: unseeded randomness, files, connections."""

from dataclasses import asdict, dataclass

from samebits.core.errors import RecordError
from samebits.core.home_path import without_home
from samebits.core.jsonio import Fields

FILE = "file"
FOLDER = "folder"
CONNECTION = "connection"
UNPINNED_KINDS = (FILE, FOLDER, CONNECTION)


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class EntropyUse:
    """A place where the script took unseeded randomness: the `call` in that line, and how often."""

    path: str
    line: int
    call: str
    times: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.call}"

    def to_dict(self) -> dict[str, str | int]:
        """As the record holds it."""
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: Fields) -> "EntropyUse":
        """Read what `to_dict` wrote."""
        line, times = (fields.get(name, int) for name in ("line", "times"))
        return cls(path=fields.get("path", str), line=line, call=fields.get("call", str), times=times)


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class UnpinnedUse:
    """A place where the script read a file or a folder, or opened a connection, that is not among its inputs.

    `kind` is one of UNPINNED_KINDS; `what` is the file, or the host and its port.
    """

    path: str
    line: int
    call: str
    kind: str
    what: str
    times: int

    def __str__(self) -> str:
        verb = "connects to" if self.kind == CONNECTION else f"reads the {self.kind}"
        return f"{self.path}:{self.line}: {self.call} {verb} {self.what}"

    def to_dict(self) -> dict[str, str | int]:
        """As the record holds it."""
        return asdict(self) | {"what": without_home(self.what)}

    @classmethod
    def from_fields(cls, fields: Fields) -> "UnpinnedUse":
        """Read what `to_dict` wrote."""
        path, call, kind, what = (fields.get(name, str) for name in ("path", "call", "kind", "what"))
        if kind not in UNPINNED_KINDS:
            raise RecordError(f"'{fields.path('kind')}' must be one of {', '.join(UNPINNED_KINDS)}, not {kind!r}")
        line, times = (fields.get(name, int) for name in ("line", "times"))
        return cls(path=path, line=line, call=call, kind=kind, what=what, times=times)


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class ScriptSetting:
    """A setting of the profile that the script made itself, and where: `path` is empty where that is unknown."""

    path: str
    line: int
    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.name}={self.value}"

    def to_dict(self) -> dict[str, str | int]:
        """As the record holds it."""
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: Fields) -> "ScriptSetting":
        """Read what `to_dict` wrote."""
        path, name, value = (fields.get(key, str) for key in ("path", "name", "value"))
        return cls(path=path, line=fields.get("line", int), name=name, value=value)
