"""A trial: a short run that `samebits check` makes and throws away.

It changes what around a run must not matter, or lets settings go to see what they cost.
"""

from dataclasses import asdict, dataclass
from typing import Any

from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import Fields

HASH_SEED = "hash seed"
FOLDERS = "directory order"
CORES = "cores"
CLOCK = "clock"
USER = "user"
HOST = "host name"
MEMORY = "memory layout"
PERTURBATIONS = (HASH_SEED, FOLDERS, CORES, CLOCK, USER, HOST, MEMORY)
"""What must not matter to the bits of a run, in the order in which causes are looked for."""

OP_DETERMINISM = "op determinism"
SEEDS = "seeds"
GRAPH_REWRITES = "graph rewrites"
EXACT_OPERATIONS = "exact operations"
IN_PROCESS = (OP_DETERMINISM, SEEDS, GRAPH_REWRITES, EXACT_OPERATIONS)
"""The settings that no environment variable holds."""

OTHER_HASH_SEED = "4242"

FEWEST_TIMED = 10
"""Steps of a training that can be timed at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """After so many `steps` in all it ends (None: with the script).

    `changed` are names of SURROUNDINGS, `without` those of settings that are let go.
    """

    steps: int | None = None
    changed: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise InputError(f"a trial makes at least one step, not {self.steps}")
        for name in self.changed:
            if name not in PERTURBATIONS:
                raise InputError(f"there is no {name!r} to change; choose from: {', '.join(PERTURBATIONS)}")

    @property
    def hash_seed(self) -> str:
        """What PYTHONHASHSEED is in it."""
        return OTHER_HASH_SEED if HASH_SEED in self.changed else "0"

    @property
    def variables(self) -> dict[str, str]:
        """What the interpreter has to find before it starts, beside the settings of the profile."""
        return {"PYTHONMALLOC": "malloc"} if MEMORY in self.changed else {}

    @property
    def message(self) -> str:
        """What a run says that ended with its last step."""
        return f"ended after {self.steps} steps, as asked"

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return asdict(self) | {"changed": list(self.changed), "without": list(self.without)}

    @classmethod
    def from_fields(cls, fields: Fields) -> "Trial":
        """Read what `to_dict` wrote; raises RecordError."""
        try:
            return cls(
                steps=fields.optional("steps", int),
                changed=fields.texts("changed"),
                without=fields.texts("without"),
            )
        except InputError as error:
            raise RecordError(f"'{fields.path('changed')}': {error}") from error
