"""One worker's side: its place in the cluster, and its line to the process that started it."""

import json
import math
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from samebits.core.errors import RecordError
from samebits.core.jsonio import Fields
from samebits.core.record import Outcome
from samebits.runner.workers.agreement import CHIEF, MACHINE, LineReport
from samebits.runner.workers.verdict import Verdict, WorkerEnd

LINE, END, USED, DIED = "line", "end", "used", "died"
MAX_MESSAGE_BYTES = 64 << 20  # of a model with 400,000 tensors


class NoMessageError(Exception):
    """What was sent is none of this module's messages."""


@dataclass(kw_only=True, slots=True)
class Worker:
    """`index` of the workers at `addresses`. `strategies` counts what the script made; `shared`, see `WorkerEnd`."""

    index: int
    addresses: Sequence[str]
    channel: socket.socket
    strategies: int = 0
    shared: bool = False

    @property
    def is_chief(self) -> bool:
        """Whether this worker's ledger, outputs and models are the run's."""
        return self.index == CHIEF

    @property
    def cluster(self) -> str:
        """TF_CONFIG, as TensorFlow's tutorials have it."""
        task = {"type": "worker", "index": self.index}
        return json.dumps({"cluster": {"worker": list(self.addresses)}, "task": task})

    def report(self, line: int, place: str, tensors: Iterable[tuple[str, str]]) -> None:
        """Send what all workers must agree on. Nobody waits: a difference ends the run from outside."""
        report = LineReport(line=line, place=place, tensors=tuple(tensors))
        self.shared = self.shared or bool(report.tensors)
        self._send(LINE, asdict(report))

    def report_machine(self, operations: Mapping[str, str]) -> None:
        """Send what operations give on this machine, before the first step."""
        report = LineReport(
            line=MACHINE, place="the fingerprint of its machine", tensors=tuple(sorted(operations.items()))
        )
        self._send(LINE, asdict(report))

    def conclude(self, outcome: Outcome) -> Verdict:
        """Report how the script ended, and wait for the verdict on the run."""
        end = WorkerEnd(state=outcome.state, message=outcome.message, strategies=self.strategies, shared=self.shared)
        self._send(END, asdict(end))
        with self.channel.makefile("r", encoding="utf-8") as answers:
            answer = answers.readline()
        # Without an answer the process that started this one is gone, and ends this one, too.
        return Verdict(**json.loads(answer)) if answer else Verdict(problem="the process that started it is gone")

    def _send(self, kind: str, body: dict[str, Any]) -> None:
        self.channel.sendall(message(kind, body))


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeReport:
    """What the node of a worker reports: the processor time of its process, or the status with which that ended."""

    kind: str
    value: float


def message(kind: str, body: dict[str, Any]) -> bytes:
    """A message to the process that started the run."""
    return json.dumps([kind, body]).encode() + b"\n"


def parse_message(text: bytes) -> LineReport | WorkerEnd | NodeReport:
    """Read what a worker, or its node, sent; raises NoMessageError."""
    try:
        kind, values = json.loads(text)
        body = Fields(values)
        if kind in (USED, DIED):
            return NodeReport(kind=kind, value=_finite(body.get("value", float)))
        return _end(body) if kind == END else _line(body)
    except (ValueError, TypeError, RecursionError, RecordError) as error:
        raise NoMessageError from error


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("no number")
    return value


def _end(body: Fields) -> WorkerEnd:
    return WorkerEnd(
        state=body.get("state", str),
        message=body.optional("message", str),
        strategies=body.get("strategies", int),
        shared=body.get("shared", bool),
    )


def _line(body: Fields) -> LineReport:
    pairs = (Fields({"pair": pair}).texts("pair") for pair in body.items("tensors", list))
    tensors = tuple((name, digest) for name, digest in pairs)
    return LineReport(line=body.get("line", int), place=body.get("place", str), tensors=tensors)
