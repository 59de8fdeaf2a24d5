"""Do all workers train the same? Compares what each reports for a line of the ledger with what the chief reports."""

from collections import deque
from dataclasses import dataclass

from samebits.core.errors import pluralize

CHIEF = 0
SAME = "all workers must train the same models, in the same order"
MACHINE = 0
"""In the place of a line: what a worker reports before the first step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LineReport:
    """What one worker has for a line of the ledger: name and digest of each variable that all workers share.

    Before the first line, what operations give on its machine: the line is 0.
    """

    line: int
    place: str
    tensors: tuple[tuple[str, str], ...]

    def difference(self, worker: int, other: "LineReport") -> str | None:
        """What differs in the report of another worker; `self` is the chief's."""
        if (self.line, self.place) != (other.line, other.place):
            return f"worker {worker} is at {other.where} where worker {CHIEF} is at {self.where}; {SAME}"
        if self.names != other.names and self.line == MACHINE:
            return f"worker {worker} computed other operations than worker {CHIEF} for {self.where}"
        if self.names != other.names:
            trains = f"worker {worker} trains {other.beside(self)}, and worker {CHIEF} {self.beside(other)}"
            return f"at {self.where} {trains}; {SAME}"
        for one, two in zip(self.tensors, other.tensors, strict=True):
            if one != two:
                where = f"worker {worker} disagrees with worker {CHIEF} at {self.where}"
                return f"{where}: {one[0]} is the first to differ"
        return None

    @property
    def names(self) -> list[str]:
        """The variables that all workers share, in order."""
        return [name for name, _ in self.tensors]

    def beside(self, other: "LineReport") -> str:
        """What is trained here and not in the other report, for a message."""
        if not self.tensors:
            return "a model outside of the strategy's scope"
        return next((name for name in self.names if name not in other.names), pluralize(len(self.names), "variable"))

    @property
    def where(self) -> str:
        """The line in words."""
        if self.line == MACHINE:
            return self.place
        return f"line {self.line} of the ledger ({self.place})"


class Agreement:
    """Compares reports in the order in which each worker sends them."""

    def __init__(self, workers: int) -> None:
        # For each worker but the chief: the chief's reports and its own that are not compared yet.
        self._open: dict[int, tuple[deque[LineReport], deque[LineReport]]] = {
            worker: (deque(), deque()) for worker in range(workers) if worker != CHIEF
        }

    def add(self, worker: int, report: LineReport) -> str | None:
        """Compare what can be compared now; returns what differs."""
        for other, (chiefs, own) in self._open.items():
            if worker == CHIEF:
                chiefs.append(report)
            elif worker == other:
                own.append(report)
            if chiefs and own and (found := chiefs.popleft().difference(other, own.popleft())) is not None:
                return found
        return None

    def missing(self) -> str | None:
        """Which line one worker has and another does not, once all have ended."""
        for worker, reports in self._open.items():
            for left, has, lacks in zip(reports, (CHIEF, worker), (worker, CHIEF), strict=True):
                lines = [report for report in left if report.line != MACHINE]
                if lines:
                    return f"worker {has} has {lines[0].where}, and worker {lacks} does not; {SAME}"
        return None
