"""A step's line in the ledger: what is taken of the step until it is done, and the form that the line has."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from samebits.core.digest import Digest
from samebits.core.jsonio import storage_error, write_atomically
from samebits.core.trace_level import EPOCH, STEP, Trace
from samebits.runner.digests.tensors import DescribedTensor, describe_tensor, group_digest, named_variables

Append = Callable[[dict[str, object]], None]
Described = list[dict[str, Any]]


@dataclass(kw_only=True, slots=True)
class StepCapture:
    """What a tap saw of one step before its line is written; an optimizer was called behind `settled` outputs."""

    outputs: Described = field(default_factory=list)
    gradients: Described = field(default_factory=list)
    settled: int = 0


class StepRecordWriter:
    """Writes lines by `append`, with what was taken since the last `forget`.

    `tensors` is where the bytes of a traced step are kept: at level `tensor`, if the window names a step. Those of what
    comes into no line are removed.
    """

    def __init__(self, trace: Trace, append: Append, tensors: Path) -> None:
        self._trace = trace
        self._append = append
        self._tensors = tensors
        self._taken: dict[int, StepCapture] = {}
        self._unwritten: set[str] = set()
        self._keep = self._store if trace.values and trace.step is not None else None

    def begin_pass(self) -> None:
        """A tape begins: the outputs of which no optimizer was given a gradient since belong to no step."""
        taken = self._taken.get(0)
        if taken is not None and len(taken.outputs) > taken.settled:
            del taken.outputs[taken.settled :]
            self._remove_unused()

    def take(self, tap: int, outputs: list[DescribedTensor], gradients: list[DescribedTensor]) -> None:
        """What a tap saw: all of its step; tap 0 sees it bit by bit, gradients when an optimizer is called."""
        found = describe_tensor([*outputs, *gradients], self._keep)
        taken = self._taken.setdefault(tap, StepCapture()) if tap == 0 else StepCapture()
        taken.outputs += found[: len(outputs)]
        taken.gradients += found[len(outputs) :]
        if gradients:
            taken.settled = len(taken.outputs)
        self._taken[tap] = taken

    def forget(self) -> None:
        """The step is over, with lines or without."""
        self._taken.clear()
        self._remove_unused()

    def write(self, place: dict[str, int], model: str, groups: dict[str, list[Any]]) -> None:
        """Append the line of a step, with the variables of a model by group; none at level `epoch`."""
        if self._trace.level == EPOCH:
            return
        tensors = {name: describe_tensor(named_variables(variables), self._keep) for name, variables in groups.items()}
        line: dict[str, object] = {"event": STEP, **place, "model": model}
        line["tensors"] = {name: group_digest(described) for name, described in tensors.items()}
        if self._trace.values:
            line["variables"] = [{"group": name} | item for name, described in tensors.items() for item in described]
            line["gradients"] = [item for tap in sorted(self._taken) for item in self._taken[tap].gradients]
            line["outputs"] = self._outputs()
            self._unwritten -= {
                _name(item) for part in ("variables", "gradients", "outputs") for item in cast("Described", line[part])
            }
        self._append(line)

    def _outputs(self) -> Described:
        """Those of the step: what came outside of its graph behind an optimizer, or beside the graph's own, is none."""
        called = self._taken.get(0, StepCapture())
        inside = [item for tap in sorted(self._taken.keys() - {0}) for item in self._taken[tap].outputs]
        return (called.outputs[: called.settled] if called.settled or inside else called.outputs) + inside

    def _remove_unused(self) -> None:
        """Remove the bytes that were kept of what is in no line, and will be in none."""
        used = {_name(item) for taken in self._taken.values() for item in (*taken.outputs, *taken.gradients)}
        for name in self._unwritten - used:
            (self._tensors / name).unlink(missing_ok=True)
        self._unwritten &= used

    def _store(self, digest: Digest, content: Any) -> None:
        """Keep the bytes of a tensor under the name of their digest; equal ones are kept once."""
        try:
            self._tensors.mkdir(exist_ok=True)
        except OSError as error:
            raise storage_error(error, self._tensors) from error
        path = self._tensors / digest.hex
        if not path.exists():
            write_atomically(path, bytes(content), mode=0o444)
            self._unwritten.add(digest.hex)


def _name(item: dict[str, Any]) -> str:
    """Of the file that holds a tensor's bytes."""
    return Digest.parse(item["digest"]).hex
