"""While tests run: every half minute a line that says what is done, what runs, and how much is left."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

_REPORT_SECONDS = 30.0
_KEY = "samebits/seconds"
"""Where pytest's cache keeps how long each test took last time."""
_UNKNOWN = (("tests/unit/", 0.1), ("[docker", 15.0), ("tests/engine/", 10.0), ("", 4.0))
"""Seconds of a test that was never run here, by a part of its name."""


@dataclass(eq=False)  # pytest keeps plugins in sets
class Progress:
    """On the controller: follows the tests of all workers."""

    config: pytest.Config
    seconds: dict[str, float] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    running: dict[str, float] = field(default_factory=dict)
    total: int = 0
    worked: float = 0.0  # of all workers
    expected: float = 0.0  # of what is done

    def __post_init__(self) -> None:
        self._begun = time.monotonic()
        self._over = threading.Event()
        self._lock = threading.Lock()

    @property
    def _cache(self) -> Any:
        return getattr(self.config, "cache", None)

    def pytest_sessionstart(self) -> None:
        if self._cache is not None:
            self.seconds = dict(self._cache.get(_KEY, {}))
        threading.Thread(target=self._report, daemon=True).start()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._collected([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._collected(ids)

    def _collected(self, ids: list[str]) -> None:
        with self._lock:
            if ids and not self.total:
                self.left, self.total = set(ids), len(ids)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        with self._lock:
            self.running[nodeid] = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            return
        with self._lock:
            self.expected += self._expect(report.nodeid)
            took = time.monotonic() - self.running.pop(report.nodeid, time.monotonic())
            self.worked += took
            self.seconds[report.nodeid] = round(took, 2)
            self.left.discard(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._over.set()
        if self._cache is not None:
            self._cache.set(_KEY, self.seconds)

    def _expect(self, name: str) -> float:
        known = self.seconds.get(name)
        return known if known is not None else next(seconds for part, seconds in _UNKNOWN if part in name)

    def _report(self) -> None:
        while not self._over.wait(_REPORT_SECONDS):
            reporter = self.config.pluginmanager.get_plugin("terminalreporter")
            if reporter is not None and self.total:
                with self._lock:
                    line = self._line(time.monotonic())
                begun = reporter._tw.width_of_current_line > 0  # a line of dots
                reporter.write_line(f"\n{line}" if begun else line)

    def _line(self, now: float) -> str:
        """Tests done, time gone, time left by what the tests took last time, and what runs."""
        workers = getattr(self.config.option, "numprocesses", None) or 1
        pace = self.worked / self.expected if self.expected > 10 else 1.0
        left = pace * sum(self._expect(name) for name in self.left) / workers
        runs = ", ".join(f"{name.rpartition('/')[2]} ({now - since:.0f} s)" for name, since in self.running.items())
        done = f"{self.total - len(self.left)} of {self.total} done in {_minutes(now - self._begun)}"
        return f"test: {done}, about {_minutes(left)} left; running {runs or 'nothing'}"


def _minutes(seconds: float) -> str:
    return f"{seconds // 60:.0f}:{seconds % 60:02.0f}"
