"""Which worker of pytest-xdist runs a test: what is in one group, see `lanes`, runs on one.

Workers know the groups, by their tests' fixtures; the controller, which hands tests out, reads them from a file that
they leave. (pytest-xdist's own way writes the group into a test's id, where newer versions of pytest do not look.)
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

_FOLDER = "SAMEBITS_TEST_GROUPS"
"""The variable that tells workers where the controller looks for the file."""


def share(folder: Path) -> None:
    """On the controller: where its workers are to leave the groups."""
    os.environ[_FOLDER] = str(folder)


def leave(groups: dict[str, str]) -> None:
    """On a worker: the group of each test that has one; all workers collect the same."""
    path = Path(os.environ[_FOLDER]) / "groups.json"
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(groups))
    draft.rename(path)


class Schedule(LoadScopeScheduling):  # type: ignore[misc]
    """The largest groups first, then what is in none, one test after the other."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self._groups: dict[str, str] | None = None

    def _split_scope(self, nodeid: str) -> str:
        if self._groups is None:  # once all workers have collected
            self._groups = json.loads((Path(os.environ[_FOLDER]) / "groups.json").read_text())
        return self._groups.get(nodeid, nodeid)
