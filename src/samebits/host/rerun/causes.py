"""The tensors in which two lines of ledgers differ: what diverged first, and in which layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samebits.core.jsonio import Fields
from samebits.core.result import TensorDescription
from samebits.core.trace_level import INPUT
from samebits.host.compare.ledger_diff import TENSOR_LISTS, Divergence
from samebits.host.compare.tensor_diff import Distance, TensorStore, tensor_distance


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """A tensor that differs: `kind` is input, output, gradient or variable; `layer` is where to look."""

    kind: str
    tensor: str
    layer: str
    distance: Distance | None = None

    def to_dict(self) -> dict[str, Any]:
        """The form in JSON."""
        distance = None if self.distance is None else self.distance.to_dict()
        return {"kind": self.kind, "tensor": self.tensor, "layer": self.layer, "distance": distance}

    def __str__(self) -> str:
        distance = "" if self.distance is None else f": {self.distance}"
        return f"{self.kind} {self.tensor} (layer {self.layer}){distance}"


_SINGULAR = {"outputs": "output", "gradients": "gradient", "variables": "variable"}
"""What one item of each list is."""


def causes_in(divergence: Divergence, stores: tuple[TensorStore, TensorStore] | None = None) -> list[Cause]:
    """The tensors of the first list that differs: outputs as computed, gradients from the loss backwards.

    Each has its distance if its bytes are in the `stores`.
    """
    for kind in TENSOR_LISTS:
        lists = [(line or {}).get(kind) or [] for line in (divergence.one, divergence.other)]
        # Lists of different lengths come from different models; the common part is still useful.
        pairs = list(zip(*lists, strict=False))
        differing = [pair for pair in pairs if any(pair[0].get(name) != pair[1].get(name) for name in _TENSOR_KEYS)]
        # A variable without a gradient, such as a learning rate, is nearer to the cause.
        if kind == "variables":
            differing.sort(key=lambda pair: pair[0].get("group") != "optimizer" or bool(pair[0].get("shape")))
        if differing:
            causes = [_describe_cause(kind, one, other, stores) for one, other in differing]
            return causes[::-1] if kind == "gradients" else causes
    return []


_TENSOR_KEYS = ("dtype", "shape", "digest")
"""What decides whether two listed tensors are the same. Their names may differ."""


def _describe_cause(
    kind: str, one: Mapping[str, Any], other: Mapping[str, Any], stores: tuple[TensorStore, TensorStore] | None
) -> Cause:
    # A variable's path ends with its name; the layer is what comes before.
    path = str(one.get("layer") or one.get("path"))
    layer = path if "layer" in one else path.rpartition("/")[0] or path
    part = one.get("part")
    return Cause(
        kind=INPUT if part == INPUT else _SINGULAR[kind],
        tensor=path if part in {None, INPUT} else f"{path} {part}",
        layer=layer,
        distance=None if stores is None else tensor_distance(_tensor_of(one, path), _tensor_of(other, path), stores),
    )


def _tensor_of(item: Mapping[str, Any], path: str) -> TensorDescription:
    """The tensor that a ledger line lists."""
    return TensorDescription.from_fields(Fields({**item, "path": path}, path))
