"""A trial: a short run that `samebits check` makes and deletes.

It either perturbs the environment, to find what the bits depend on, or drops settings, to measure their cost.
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
"""Changes that must not affect the bits of a run, in the order in which causes are searched."""

OP_DETERMINISM = "op determinism"
SEEDS = "seeds"
GRAPH_REWRITES = "graph rewrites"
EXACT_OPERATIONS = "exact operations"
ORDER_OF_SUMS = "order of sums"
CACHE_SIZES = "cache sizes"
IN_PROCESS = (OP_DETERMINISM, SEEDS, GRAPH_REWRITES, EXACT_OPERATIONS, ORDER_OF_SUMS, CACHE_SIZES)
"""The settings that are not environment variables."""

OTHER_HASH_SEED = "4242"
"""PYTHONHASHSEED in a trial that perturbs it; any value but 0 would do."""

FEWEST_TIMED = 10
"""The smallest number of steps from which the time of a step is taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What a trial changes. It ends after `steps` steps in total, or `checkpoints` checkpoints (None: with the script).

    Epochs of `fit` and evaluations have `epoch_steps` steps at most. Both came with version 1.4 of the record.

    `changed` are names of PERTURBATIONS; `without` are the names of settings to drop.
    """

    steps: int | None = None
    changed: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    epoch_steps: int | None = None
    checkpoints: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise InputError(f"a trial needs at least one step, not {self.steps}")
        for name in self.changed:
            if name not in PERTURBATIONS:
                raise InputError(f"unknown perturbation {name!r}; choose from: {', '.join(PERTURBATIONS)}")

    @property
    def hash_seed(self) -> str:
        """The value of PYTHONHASHSEED."""
        # The interpreter reads the hash seed before any code of ours runs.
        return OTHER_HASH_SEED if HASH_SEED in self.changed else "0"

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that must be set before the interpreter starts, in addition to the profile's."""
        # Another allocator places all objects at other addresses.
        return {"PYTHONMALLOC": "malloc"} if MEMORY in self.changed else {}

    @property
    def message(self) -> str:
        """The outcome's message of a run that ended after its last step."""
        return f"ended after {self.steps} steps, as asked"

    @property
    def saved_message(self) -> str:
        """The outcome's message of a run that ended after its last checkpoint."""
        return f"ended after {self.checkpoints} checkpoints, as asked"

    def to_dict(self) -> dict[str, Any]:
        """As the record stores it."""
        # JSON has no tuples.
        return asdict(self) | {"changed": list(self.changed), "without": list(self.without)}

    @classmethod
    def from_fields(cls, fields: Fields) -> "Trial":
        """Parse the output of `to_dict`; raises RecordError."""
        try:
            return cls(
                steps=fields.optional("steps", int),
                changed=fields.texts("changed"),
                without=fields.texts("without"),
                epoch_steps=fields.optional("epoch_steps", int),
                checkpoints=fields.optional("checkpoints", int),
            )
        except InputError as error:
            raise RecordError(f"'{fields.path('changed')}': {error}") from error
