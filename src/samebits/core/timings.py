"""Where the time of a run went, in seconds."""

from dataclasses import dataclass
from typing import Any

from samebits.core.jsonio import Fields

_KEYS = {"imports": "import"}  # a Python keyword


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """Seconds by what they were spent on; what is None was not measured, and its key is not in the file.

    Of a trial: `steps` is how many steps it made, `step` the seconds of one after the first ones.
    """

    imports: float | None = None
    setup: float | None = None
    script: float | None = None
    observe: float | None = None
    digest_result: float | None = None
    check_inputs: float | None = None
    total: float | None = None
    steps: int | None = None
    step: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        values = {_KEYS.get(name, name): getattr(self, name) for name in self.__slots__}
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_fields(cls, fields: Fields) -> "Timings":
        """Read what `to_dict` wrote."""
        seconds = {name: fields.optional(_KEYS.get(name, name), float) for name in cls.__slots__ if name != "steps"}
        return cls(**seconds, steps=fields.optional("steps", int))
