"""What all captures of one run have in common: the script's folder, its paths, and its large arrays."""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import RecordError
from samebits.runner.checkpoint.state.capture import StateCapture
from samebits.runner.checkpoint.state.capture_arrays import LargeArrays
from samebits.runner.checkpoint.state.code_inspection import is_ours
from samebits.runner.checkpoint.state.encoding import PathMap


class StateWalker:
    """Captures state, and remembers the large arrays that existed when training began.

    `code` is the folder of the script's modules. `folders` are paths that differ between runs. Large unchanged arrays,
    typically the data, are not stored: the script creates them again when it is resumed.
    """

    def __init__(self, code: Path, folders: PathMap) -> None:
        self.code = str(code)
        self._folders = folders
        self._large: LargeArrays = {}

    def check_globals(self, saved: Iterable[list[Any]]) -> None:
        """Raise RecordError if a saved global does not belong to one of the script's modules."""
        for module, name, _ in saved:
            if not is_ours(module, self.code) or name not in vars(sys.modules[module]):
                raise RecordError(f"a checkpoint names {module}.{name}, which is not a global of the script")

    def capture_initial(self, roots: Mapping[str, Any]) -> StateCapture:
        """Capture the state before training begins, and remember its large arrays. Raises UncapturableError."""
        self._large = {}
        captured = StateCapture(self.code, self._folders, self._large, initial=True)
        captured.capture_roots(roots)
        return captured

    def capture(
        self,
        roots: Mapping[str, Any],
        known: Mapping[int, tuple[Any, Digest]] | None = None,
        *,
        frozen: bool = False,
    ) -> StateCapture:
        """Capture the state. Raises UncapturableError.

        `known` has values and digests of variables that were read already, by the `id` of the variable. `frozen`
        leaves out what a traced graph reads anew in each step: the values of variables.
        """
        captured = StateCapture(self.code, self._folders, self._large, known, frozen=frozen)
        captured.capture_roots(roots)
        return captured

    def capture_others(
        self, roots: Mapping[str, Any], number_of: Callable[[Any], int | None], *, initial: bool = False
    ) -> StateCapture:
        """Capture what has no number yet, such as `StateCapture.number_of` gives. Raises UncapturableError."""
        captured = StateCapture(self.code, self._folders, self._large, initial=initial, skip=number_of)
        captured.capture_roots(roots)
        return captured
