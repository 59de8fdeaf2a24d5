"""Captures the state of Python objects that training changes, as JSON and bytes. `restore` is the inverse.

The walk starts at given roots (callbacks, a model, a PyDataset). It follows attributes, containers, and what the
script's own functions refer to: closures and globals. Modules of libraries are not walked. The global random generators
of libraries are captured by `global_rngs`.
"""

import enum
import io
import sys
import types
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.runner.checkpoint.state import encoding
from samebits.runner.checkpoint.state.attribute_access import order_of
from samebits.runner.checkpoint.state.capture_arrays import ArrayCapture, LargeArrays, frozen_value, unsaved
from samebits.runner.checkpoint.state.capture_code import CodeCapture, misses_of
from samebits.runner.checkpoint.state.capture_containers import BUILTIN_CONTAINERS, encode_container
from samebits.runner.checkpoint.state.capture_keras import KerasCapture, bases_of
from samebits.runner.checkpoint.state.code_inspection import is_ours
from samebits.runner.checkpoint.state.encoding import (
    ORDER,
    PLAIN,
    SYMBOLIC,
    Encoded,
    PathMap,
    UncapturableError,
    qualified_name,
)
from samebits.runner.checkpoint.state.library_objects import (
    COMPARE,
    CONSTANT,
    REFUSE,
    WALK,
    handling_of,
    is_known_by_place,
    is_library_class,
    is_symbolic,
    is_trackable,
)
from samebits.runner.checkpoint.state.object_inspection import (
    attributes_of,
    check_attributes_held,
    draws_unseen,
    holding_members,
    is_cache,
    member_attributes,
    weakly,
)
from samebits.runner.checkpoint.state.open_files import check_no_attributes, described_file, is_standard
from samebits.runner.checkpoint.state.plain_values import encoded_value, float_text
from samebits.runner.compat import keras_private, tensorflow_private


class StateCapture:
    """One walk over the state. `encoded` is the JSON, `contents` the bytes that it refers to by digest."""

    def __init__(
        self,
        code: str,
        folders: PathMap,
        large: LargeArrays,
        known: Mapping[int, tuple[Any, Digest]] | None = None,
        *,
        initial: bool = False,
        frozen: bool = False,
        skip: Callable[[Any], int | None] = lambda _: None,
    ) -> None:
        self._folder, self._skip = code, skip
        self._frozen, self._folders = frozen, folders
        self.skipped: dict[int, tuple[Any, str]] = {}
        encode, ours = weakly(self.encode), weakly(self._ours)
        self._arrays = ArrayCapture(encode, large, known or {}, initial=initial)
        self._numbers: dict[int, int] = {}
        # An `id` stays unique only while its object is alive.
        self._alive: list[tuple[Any, str]] = []
        self._lenient = 0
        self._code = CodeCapture(code, encode, weakly(self._strict))
        self._keras = KerasCapture(encode, ours, frozen=frozen)
        self._draws = False
        self.encoded: dict[str, Any] = {}

    def draws_beside(self, methods: Collection[types.FunctionType], own: Mapping[str, Any]) -> bool:
        """Whether the captured objects may draw random numbers outside of these methods; `own` are attributes."""
        others = self._draws or self._arrays.generators - set(map(id, own.values())) or self._keras.draws
        return bool(others or self._code.draws_beside(methods, own))

    @property
    def has_own_code(self) -> bool:
        """Whether the walk reached functions or classes of the script."""
        return self._code.has_own

    @property
    def contents(self) -> dict[str, Any]:
        """The bytes that `encoded` refers to by digest."""
        return self._arrays.contents

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers that the walk visited."""
        return self._keras.optimizers

    def shares_generators(self, other: "StateCapture") -> bool:
        """Whether the objects of two walks may draw from the same random generator."""
        generators, draws = other.drawn_from()
        return bool(self._arrays.generators & generators) or (self._code.draws and draws)

    def drawn_from(self) -> tuple[set[int], bool]:
        """The generators that were captured, by `id`, and whether code may draw from a global one."""
        return self._arrays.generators, self._code.draws

    def number_of(self, value: Any) -> int | None:
        """The number of an object that the walk visited, in the order of its visits; None for others."""
        return self._numbers.get(id(value))

    def visited(self, number: int) -> tuple[Any, str]:
        """The object with a number, and where it was found first."""
        return self._alive[number]

    def reaches(self, module: str, name: str) -> bool:
        """Whether the walk visited this global."""
        return (module, name) in self._code.globals

    def capture_roots(self, roots: Mapping[str, Any]) -> None:
        """Walk from these roots, then over the globals that visited functions refer to."""
        found = [[name, self.encode(value, name)] for name, value in roots.items()]
        saved: list[list[Any]] = []
        # Capturing a global may discover further globals.
        while len(saved) < len(self._code.globals) or self._keras.finish_next():
            if len(saved) == len(self._code.globals):
                continue
            module, name = list(self._code.globals)[len(saved)]
            saved.append([module, name, self.encode(vars(sys.modules[module])[name], f"{module}.{name}")])
        self.encoded = {"roots": found, "globals": saved}

    def encode(self, value: Any, where: str) -> Encoded:
        """A value as JSON; `where` says in messages where it was found."""
        # Text may contain paths of this run.
        if type(value) is str:
            return self._folders.leave(value)
        if type(value) in PLAIN:
            return value
        # Decimal digits could lose bits.
        if type(value) is float:
            return {"float": float_text(value)}
        if id(value) in self._numbers:
            return {"again": self._numbers[id(value)]}
        if (number := self._skip(value)) is not None:
            self.skipped.setdefault(number, (value, where))
            return {"constant": f"captured {number}"}
        plain = self._immutable(value)
        return self._numbered(value, where) if plain is None else plain

    def _numbered(self, value: Any, where: str) -> Encoded:
        """An object that may be referred to more than once."""
        # The number is assigned first, as the object may contain itself.
        number = self._numbers[id(value)] = len(self._numbers)
        self._alive.append((value, where))
        if self._ours(type(value)) or type(value).__module__ in ("collections", "weakref"):
            check_attributes_held(value, where)
        encoders = (
            self._arrays.array_or_variable,
            self._arrays.generator,
            self._keras.encode,
            self._container,
            self._code.encode,
        )
        for encoder in encoders:
            found = encoder(value, where)
            if found is not None:
                break
        else:
            found = self._object(value, where)
        return {**found, "#": number}

    def _container(self, value: Any, where: str) -> Encoded | None:
        # A mapping of the script's own that is no dict keeps its items in attributes, beside others.
        if isinstance(value, type) and issubclass(value, enum.Enum):
            members = [self.encode(member, where) for member in holding_members(value)]
            return {"members": members, "class": qualified_name(value)}
        own = self._ours(type(value)) and not isinstance(value, BUILTIN_CONTAINERS)
        return None if own else encode_container(value, where, self.encode)

    @contextmanager
    def _strict(self) -> Iterator[None]:
        lenient, self._lenient = self._lenient, 0
        try:
            yield
        finally:
            self._lenient = lenient

    def _immutable(self, value: Any) -> Encoded | None:
        """A value without identity as JSON; None for other values."""
        if (found := self._plain_value(value)) is not None:
            return found
        if isinstance(value, enum.Enum) and not member_attributes(value):
            return {"member": encoding.encoded_member(value)}
        if (opened := encoding.name_in_file(value)) is not None:
            return {"constant": opened}
        found = frozen_value(value) if self._frozen else None
        return self._constant(value) if found is None else found

    def _plain_value(self, value: Any) -> Encoded | None:
        if type(value) is type(Path()):
            return {"path": self._folders.leave(str(value))}
        if (parts := encoded_value(value)) is not None:
            return {"scalar": [self._folders.leave(part) if type(part) is str else part for part in parts]}
        if type(value) is bytes:
            return self._folders.leave_bytes(value)
        return {"complex": [float_text(value.real), float_text(value.imag)]} if type(value) is complex else None

    def _constant(self, value: Any) -> Encoded | None:
        import numpy as np

        # Symbolic tensors of a graph are created again when it is traced again.
        if is_symbolic(value):
            return dict(SYMBOLIC)
        if isinstance(value, np.generic) and value.dtype.kind in "biufcmM":
            return {"scalar": self._arrays.array(value)}
        # The attributes of the script's own classes may change during training, also those of an enumeration's members.
        if (
            isinstance(value, type)
            and self._ours(value)
            and (not issubclass(value, enum.Enum) or holding_members(value))
        ):
            return None
        constant = isinstance(value, (np.generic, type, types.ModuleType, range, slice))
        return {"constant": qualified_name(value)} if constant else None

    def _object(self, value: Any, where: str) -> Encoded:
        kind = type(value)
        if isinstance(value, enum.Enum):
            attributes = self._attributes(value, member_attributes(value), f"{qualified_name(kind)}.{value.name}")
            return {"member": encoding.encoded_member(value) | {"attributes": attributes}}
        if type(value) in (io.StringIO, io.BytesIO) and not value.closed:
            check_no_attributes(value, where)
            return {"buffer": [self.encode(value.getvalue(), where), value.tell()], "class": qualified_name(kind)}
        if isinstance(value, io.IOBase):
            return self._file(value, where)
        # Iterators inside objects of libraries are tolerated: the library's own code creates them again.
        if hasattr(value, "__next__") and not self._lenient:
            raise UncapturableError(
                f"{where} is an iterator ({kind.__name__}), whose position cannot be saved; store a counter instead"
            )
        if (found := self._library_object(value, where)) is not None:
            return found
        # The code of a library's PyDataset is not inspected.
        self._draws |= draws_unseen(kind, self._ours)
        # Classes come first, as they do when the object is restored.
        bases = bases_of(kind, self._ours, self.encode)
        encoded = self._attributes(value, attributes_of(value) or {}, where)
        # What Keras's own callbacks received since training began, their code sets again.
        required = kind.__module__.partition(".")[0] != "keras"
        content = {"class": qualified_name(kind), "attributes": encoded, "ours": required, "of": bases}
        # No graph depends on the order of attributes.
        return {"object": content | ({ORDER: order_of(value)} if required and not self._frozen else {})}

    def _library_object(self, value: Any, where: str) -> Encoded | None:
        """An object that is not walked by its attributes; None where it is."""
        if isinstance(value, weakref.ref):
            found = {"weak": self.encode(value(), where)}
            # Another one with a callback cannot be made.
            plain = type(value) is weakref.ref and value.__callback__ is None
            return found if plain else found | {"class": qualified_name(type(value))}
        if (function := tensorflow_private.python_function(value)) is not None:
            return {"wrapped": self.encode(function, where)}
        if is_cache(value):
            return {"wrapped": self.encode(value.__wrapped__, where), "misses": misses_of(value, self._folder)}
        handling = handling_of(value)
        if handling == CONSTANT and is_known_by_place(value) and not self._lenient:
            return {"held": qualified_name(value)}
        if handling == CONSTANT or (handling != WALK and self._lenient):
            return {"constant": qualified_name(value)}
        if handling == REFUSE:
            kind = qualified_name(type(value)).replace(":", ".")
            cure = "keep its values in a tf.Variable" if is_library_class(type(value)) else "open it where it is used"
            raise UncapturableError(f"{where} is a {kind}, whose state cannot be saved; {cure}")
        return unsaved(value, where) if handling == COMPARE else None

    def _file(self, value: Any, where: str) -> Encoded:
        """An open file. `output_files` restores the bytes and positions of those of the output folder."""
        kind = type(value)
        # What libraries opened, their own code opens again.
        if self._lenient or (is_standard(value) and not self._ours(kind)):
            return {"constant": qualified_name(kind)}
        return {"file": described_file(value, self._folders.folder("run"), where)}

    def _attributes(self, value: Any, attributes: Mapping[str, Any], where: str) -> dict[str, Encoded]:
        import keras

        is_csv_logger = isinstance(value, keras.callbacks.CSVLogger)
        left_out = keras_private.set_by_fit(type(value)) if isinstance(value, keras.callbacks.Callback) else frozenset()
        left_out |= {"writer"} if is_csv_logger else set()
        left_out |= keras_private.library_names(type(value)) if is_trackable(value) else set()
        encoded = {}
        for name, item in sorted(attributes.items()):
            if name not in left_out:
                with self._leniency(type(value), name):
                    encoded[name] = self.encode(item, f"{where}.{name}")
        # A CSVLogger creates its writer at the first line, and would then write a second header.
        if is_csv_logger and value.writer is not None:
            encoded["append_header"] = False
        return encoded

    @contextmanager
    def _leniency(self, kind: type, name: str) -> Iterator[None]:
        """Tolerate what an attribute holds that a library set on an object of its own; nothing a script set there."""
        if not (is_library_class(kind) and name in keras_private.library_names(kind)):
            with self._strict():
                yield
            return
        self._lenient += 1
        try:
            yield
        finally:
            self._lenient -= 1

    def _ours(self, kind: type) -> bool:
        return is_ours(kind.__module__, self._folder)
