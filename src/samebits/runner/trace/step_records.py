"""Collects the tensors of a step, and writes the step's line to the ledger."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.core.jsonio import storage_error, write_atomically
from samebits.core.trace_level import EPOCH, STEP, Trace
from samebits.runner.digests.tensors import (
    DescribedTensor,
    describe_tensor,
    group_digest,
    located_digests,
    named_variables,
)

Append = Callable[[dict[str, object]], None]
Described = list[dict[str, Any]]


@dataclass(kw_only=True, slots=True)
class StepCapture:
    """The tensors that a tap captured of one step. An optimizer was called after the first `settled` outputs."""

    outputs: Described = field(default_factory=list)
    gradients: Described = field(default_factory=list)
    settled: int = 0


class StepRecordWriter:
    """Writes lines with `append`, from the tensors that were captured since the last `forget`.

    At level `tensor`, if the window names a step, the bytes of its tensors are stored in the folder `tensors`. Bytes
    that no line refers to are removed.
    """

    def __init__(self, trace: Trace, append: Append, tensors: Path) -> None:
        self._trace = trace
        self._append = append
        self._tensors = tensors
        self._captures: dict[int, StepCapture] = {}
        self._unwritten: set[str] = set()
        self._keep = self._store if trace.values and trace.step is not None else None

    def begin_pass(self) -> None:
        """Called when a tape begins to record: outputs after the last optimizer call belong to no step."""
        capture = self._captures.get(0)
        if capture is not None and len(capture.outputs) > capture.settled:
            # Outputs up to `settled` belong to a step whose line is written at its end.
            del capture.outputs[capture.settled :]
            self._remove_unused()

    def capture(self, tap: int, outputs: list[DescribedTensor], gradients: list[DescribedTensor]) -> None:
        """Store what a tap captured.

        A tap in a graph captures its whole step at once. Tap 0 stands for eager code: it captures outputs one by one,
        and gradients when an optimizer is called.
        """
        found = describe_tensor([*outputs, *gradients], self._keep)
        # A graph that runs again replaces what its tap captured before.
        capture = self._captures.setdefault(tap, StepCapture()) if tap == 0 else StepCapture()
        capture.outputs += found[: len(outputs)]
        capture.gradients += found[len(outputs) :]
        if gradients:
            capture.settled = len(capture.outputs)
        self._captures[tap] = capture

    def forget(self) -> None:
        """The step is over, whether or not it has a line."""
        self._captures.clear()
        self._remove_unused()

    def write(self, position: dict[str, int], model: str, groups: dict[str, list[Any]]) -> None:
        """Append the line of a step, with the variables of a model by group; nothing at level `epoch`."""
        if self._trace.level == EPOCH:
            return
        # Variables are read now, after the step has changed them.
        line: dict[str, object] = {"event": STEP, **position, "model": model}
        line |= self._every_tensor(groups) if self._trace.values else {"tensors": located_digests(groups)}
        self._append(line)

    def _every_tensor(self, groups: dict[str, list[Any]]) -> dict[str, object]:
        """What the line has at level `tensor`: the digest of each tensor, whose bytes now belong to a line."""
        tensors = {name: describe_tensor(named_variables(variables), self._keep) for name, variables in groups.items()}
        listed: dict[str, Described] = {
            "variables": [{"group": name} | item for name, described in tensors.items() for item in described],
            "gradients": [item for tap in sorted(self._captures) for item in self._captures[tap].gradients],
            "outputs": self._outputs(),
        }
        self._unwritten -= {_file_name(item) for part in listed.values() for item in part}
        return {"tensors": {name: group_digest(described) for name, described in tensors.items()}, **listed}

    def _outputs(self) -> Described:
        """The outputs of the step: those before its optimizer call, or those from its graph."""
        called = self._captures.get(0, StepCapture())
        inside = [item for tap in sorted(self._captures.keys() - {0}) for item in self._captures[tap].outputs]
        return (called.outputs[: called.settled] if called.settled or inside else called.outputs) + inside

    def _remove_unused(self) -> None:
        """Remove stored bytes that no line refers to, or will refer to."""
        used = {
            _file_name(item) for capture in self._captures.values() for item in (*capture.outputs, *capture.gradients)
        }
        for name in self._unwritten - used:
            (self._tensors / name).unlink(missing_ok=True)
        self._unwritten &= used

    def _store(self, digest: Digest, content: Any) -> None:
        """Store the bytes of a tensor in a file named by their digest; equal bytes are stored once."""
        try:
            self._tensors.mkdir(exist_ok=True)
        except OSError as error:
            raise storage_error(error, self._tensors) from error
        path = self._tensors / digest.hex
        # Read-only, as the name is the digest of the content.
        if not path.exists():
            write_atomically(path, bytes(content), mode=0o444)
            self._unwritten.add(digest.hex)


def _file_name(item: dict[str, Any]) -> str:
    """The name of the file with a tensor's bytes."""
    return Digest.parse(item["digest"]).hex
