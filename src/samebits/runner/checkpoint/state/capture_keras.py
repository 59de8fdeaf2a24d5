"""Captures Keras's layers, models, metrics, losses, optimizers and seed generators as JSON."""

from collections.abc import Callable
from typing import Any

from samebits.runner.checkpoint.state.capture_containers import Encode
from samebits.runner.checkpoint.state.encoding import Encoded, qualified_name
from samebits.runner.checkpoint.state.keras_state import (
    build_of,
    fixed_of,
    holds_variables_only,
    inner_parts,
    parts_of,
    plain_settings,
    variables_of,
)
from samebits.runner.compat import keras_private


class KerasCapture:
    """Captures Keras objects. `encode` captures a value that they hold; `ours` tells the script's classes.

    `frozen` leaves out the values of variables, which a traced graph reads anew in each step.
    """

    def __init__(self, encode: Encode, ours: Callable[[type], bool], *, frozen: bool) -> None:
        self._encode = encode
        self._ours = ours
        self._frozen = frozen
        self._fixed: set[int] = set()
        self._pending: list[tuple[Any, str, dict[str, Any]]] = []
        self.optimizers: list[Any] = []
        self.draws = False
        """Whether a captured object may draw random numbers."""

    def encode(self, value: Any, where: str) -> Encoded | None:
        """A Keras object as JSON; None for other values. Raises UncapturableError."""
        import keras

        if isinstance(value, keras.optimizers.Optimizer):
            content: dict[str, Any] = {"of": bases_of(type(value), self._ours, self._encode)}
            self.optimizers.append(value)
            self._pending.append((value, where, content))
            return {"optimizer": content}
        if isinstance(value, keras.random.SeedGenerator):
            self.draws = True
            return {"layer": {"variables": self._variables([value.state], where), "attributes": {}}}
        if isinstance(value, (keras.layers.Layer, keras.metrics.Metric, keras.losses.Loss)):
            return {"layer": self._layer(value, where)}
        return None

    def finish_next(self) -> bool:
        """Capture the next optimizer that was found; False if there is none left.

        Optimizers come last, so that the variables that they train are known: some are built by their first step.
        """
        if not self._pending:
            return False
        value, where, content = self._pending.pop(0)
        content |= self._optimizer(value, where)
        return True

    def _layer(self, value: Any, where: str) -> dict[str, Any]:
        variables = [] if self._frozen else self._variables(variables_of(value), where)
        content = {
            "name": str(getattr(value, "name", "")),
            # In the order in which they are restored, as later parts refer to earlier ones.
            "variables": variables,
            "of": bases_of(type(value), self._ours, self._encode),
            "attributes": self._attributes(value, where),
            # Python values that a graph was traced with must not change; see `restorability`.
            "fixed": fixed_of(value, self._fixed),
            "inner": [self._encode(layer, f"{where}.{layer.name}") for layer in inner_parts(value)],
        }
        return content | build_of(value)

    def _attributes(self, value: Any, where: str) -> dict[str, Encoded]:
        parts = sorted(parts_of(value), key=lambda part: part[0])
        if self._frozen:
            parts = [(name, item) for name, item in parts if not holds_variables_only(item)]
        return {name: self._encode(item, f"{where}.{name}") for name, item in parts}

    def _variables(self, variables: list[Any], where: str) -> list[Encoded]:
        return [self._encode(variable, f"{where}'s variables") for variable in variables]

    def _optimizer(self, value: Any, where: str) -> dict[str, Any]:
        # The restorer builds an optimizer from the variables that it trains.
        trained = keras_private.optimizer_variables(value) if value.built else []
        if self._frozen:
            trained = []
        return {
            "trained": self._variables(trained, where),
            "variables": [] if self._frozen else self._variables(value.variables, where),
            "built": bool(value.built) and not self._frozen,
            # Another path of a variable is another result.
            "parent": None if self._frozen else keras_private.parent_scope(value),
            "attributes": self._attributes(value, where),
            "fixed": plain_settings(value),
        }


def bases_of(kind: type, ours: Callable[[type], bool], encode: Encode) -> list[list[Encoded]]:
    """The script's own classes that an object is an instance of, by name: their attributes and code may hold state."""
    return [[qualified_name(base), encode(base, qualified_name(base))] for base in kind.__mro__ if ours(base)]
