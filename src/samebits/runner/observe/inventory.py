"""What holds trainable values in a run: Keras layers, optimizers and metrics, and the variables of TensorFlow.

A model that neither `fit` nor an optimizer trains still belongs to the result: a script may assign its variables. Its
first assignment is noted, and from then on it is kept alive, so that the garbage collector never decides what counts.
"""

import functools
import gc
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from samebits.runner.compat import keras_private
from samebits.runner.compat.patches import Patches
from samebits.runner.digests.trained_models import outermost


class Identities:
    """A set of objects by identity, which keeps none of them alive."""

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[Any]] = {}

    def __contains__(self, item: Any) -> bool:
        known = self._known.get(id(item))
        # The id of an object that is gone may be used again.
        return known is not None and known() is item

    def add(self, item: Any) -> None:
        """Add an object."""
        self._known[id(item)] = weakref.ref(item)

    def discard(self, item: Any) -> None:
        """Remove an object, if it is there."""
        self._known.pop(id(item), None)

    def clear(self) -> None:
        """Remove all."""
        self._known.clear()


class _Created:
    """Objects in the order of their creation, for as long as they live."""

    def __init__(self) -> None:
        self._references: list[weakref.ref[Any]] = []
        self._limit = 10_000

    def add(self, item: Any) -> None:
        self._references.append(weakref.ref(item))
        if len(self._references) > self._limit:
            self._references = [reference for reference in self._references if reference() is not None]
            self._limit = 10_000 + 2 * len(self._references)

    def alive(self) -> list[Any]:
        found = (reference() for reference in list(self._references))
        # A base class and its subclass may each note an object.
        return list({id(item): item for item in found if item is not None}.values())


class Inventory:
    """Notes what is created and assigned. It changes nothing, and keeps alive only what was assigned."""

    def __init__(self) -> None:
        self._layers = _Created()
        self._holders = _Created()
        self._variables = _Created()
        self._weighted: list[weakref.ref[Any]] = []
        self._covered = Identities()
        self._assigned = Identities()
        self._owners: dict[int, tuple[weakref.ref[Any], weakref.ref[Any]]] = {}
        self._kept: dict[int, Any] = {}
        self._local = threading.local()
        self._lock = threading.RLock()

    def install(self, patches: Patches) -> None:
        """Wrap the creation of layers, optimizers, metrics and variables, and the assignment of variables."""
        import keras
        import tensorflow as tf

        patches.wrap((keras.layers.Layer, "__new__"), self._noting_new(self._layers))
        patches.wrap((keras.layers.Layer, "add_weight"), self._noting_weights)
        for holder in (keras.optimizers.Optimizer, keras.metrics.Metric):
            patches.wrap((holder, "__init__"), self._noting_init(self._holders))
        for kind in _subclasses(tf.Variable):
            if "__init__" in vars(kind):
                patches.wrap((kind, "__init__"), self._noting_init(self._variables))
            for name in vars(kind).keys() & _ASSIGNING:
                patches.wrap((kind, name), self._noting_assignment)

    def models(self) -> list[Any]:
        """All models that can still be reached, in the order of their creation."""
        import keras

        # Otherwise it would depend on the last garbage collection which models are alive.
        gc.collect()
        return [layer for layer in self._layers.alive() if isinstance(layer, keras.Model)]

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """A context for an optimizer's own assignments."""
        before = getattr(self._local, "stepping", False)
        self._local.stepping = True
        try:
            yield
        finally:
            self._local.stepping = before

    def cover(self, variables: Iterable[Any], layer: Any = None) -> None:
        """These variables are in the result, and so is this layer, with all inside it. They need not live on."""
        for variable in variables:
            for inner in _inner(variable):
                self._covered.add(inner)
        inside = {id(inner) for inner in keras_private.all_layers(layer)}
        self._weighted = [reference for reference in self._weighted if id(reference()) not in inside]

    def was_assigned(self, layer: Any) -> bool:
        """Whether a script assigned a variable of this outermost layer."""
        return id(layer) in self._kept

    def uncovered_layers(self, *, all_alive: bool, others: Iterable[Any] = ()) -> list[Any]:
        """Outermost layers with weights that are neither covered nor `others`: those that were assigned, or all."""
        gc.collect()
        elsewhere = {id(inner) for variable in others for inner in _inner(variable)}
        found = []
        for layer in outermost(self._layers.alive()):
            inside = [inner for weight in _listed(layer, "weights") for inner in _inner(weight)]
            new = [inner for inner in inside if inner not in self._covered and id(inner) not in elsewhere]
            if new and (all_alive or id(layer) in self._kept):
                found.append(layer)
        return found

    def uncovered_variables(self) -> list[Any]:
        """Variables of floating-point numbers that are neither covered nor a layer's, an optimizer's or a metric's."""
        owned = {
            id(inner) for owner in self._owning() for item in _listed(owner, "variables") for inner in _inner(item)
        }
        alive = self._variables.alive()
        # The parts of a variable that is distributed over devices count once.
        parts = {id(part) for variable in alive for part in _parts(variable)}
        return [
            variable
            for variable in alive
            if (variable.dtype.is_floating or variable.dtype.is_complex)
            and id(variable) not in owned | parts
            and variable not in self._covered
        ]

    def release(self) -> None:
        """Keep nothing alive any more: all of it is digested. Later assignments are noted anew."""
        with self._lock:
            self._kept.clear()
            self._owners.clear()
            self._assigned.clear()

    def count_discarded(self) -> int:
        """The number of layers with weights of their own that are gone and are not in the result."""
        # With none alive, a garbage collection would change nothing.
        if any(reference() is not None for reference in self._weighted):
            gc.collect()
        return sum(reference() is None for reference in self._weighted)

    def _noting_new(self, created: _Created) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def new(cls: type, *args: Any, **kwargs: Any) -> Any:
                item = original(cls, *args, **kwargs)
                created.add(item)
                return item

            return new

        return make

    def _noting_init(self, created: _Created) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def init(item: Any, *args: Any, **kwargs: Any) -> None:
                created.add(item)
                original(item, *args, **kwargs)

            return init

        return make

    def _noting_weights(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def add_weight(layer: Any, *args: Any, **kwargs: Any) -> Any:
            if not any(reference() is layer for reference in self._weighted[-1:]):
                self._weighted.append(weakref.ref(layer))
            return original(layer, *args, **kwargs)

        return add_weight

    def _noting_assignment(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def assign(variable: Any, *args: Any, **kwargs: Any) -> Any:
            if variable not in self._assigned and not getattr(self._local, "stepping", False):
                with self._lock:
                    self._note_assignment(variable)
            return original(variable, *args, **kwargs)

        return assign

    def _note_assignment(self, variable: Any) -> None:
        """Keep alive what a variable belongs to, from its first assignment on."""
        self._assigned.add(variable)
        self._covered.discard(variable)
        known = self._owners.get(id(variable))
        if known is None or known[0]() is not variable:
            self._index()
            known = self._owners.get(id(variable))
        owner = None if known is None or known[0]() is not variable else known[1]()
        kept = variable if owner is None else owner
        if owner is None or _is_layer(owner):
            self._kept[id(kept)] = kept

    def _index(self) -> None:
        """Find to which layer, optimizer or metric each variable belongs."""
        self._owners = {
            id(inner): (weakref.ref(inner), weakref.ref(owner))
            for owner in self._owning()
            for variable in _listed(owner, "variables")
            for inner in _inner(variable)
        }

    def _owning(self) -> list[Any]:
        # Layers come last, so that a variable that a metric shares with a layer belongs to the layer.
        return [*self._holders.alive(), *outermost(self._layers.alive())]


_ASSIGNING = frozenset(
    {
        *("assign", "assign_add", "assign_sub", "batch_scatter_update"),
        *(f"scatter_{how}" for how in ("add", "sub", "mul", "div", "min", "max", "update")),
        *(f"scatter_nd_{how}" for how in ("add", "sub", "min", "max", "update")),
    }
)
"""The methods of a `tf.Variable` that change it."""


def _listed(owner: Any, name: str) -> list[Any]:
    """A list of variables; empty where the owner cannot tell, as before it is built."""
    try:
        return list(getattr(owner, name))
    except Exception:  # noqa: BLE001  a user's class may raise anything
        return []


def _inner(variable: Any) -> list[Any]:
    """The variable of TensorFlow behind one of Keras, and its parts where it is distributed over devices."""
    inner = keras_private.inner_variable(variable)
    return [] if inner is None else [inner, *_parts(inner)]


def _parts(variable: Any) -> tuple[Any, ...]:
    parts = getattr(variable, "values", ())
    return parts if isinstance(parts, tuple) else ()


def _is_layer(item: Any) -> bool:
    import keras

    return isinstance(item, keras.layers.Layer)


def _subclasses(kind: type) -> list[type]:
    """All subclasses whose objects a script may hold."""
    found: dict[type, None] = {}
    direct: type
    for direct in kind.__subclasses__():
        found |= dict.fromkeys((direct, *_subclasses(direct)))
    return [inner for inner in found if not inner.__name__.startswith("_")]
