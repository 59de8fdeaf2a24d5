"""Models that a script exports during training: a resumed run may write other bytes.

What `model.export` writes follows from the model alone, as `export_names` numbers its functions. Other objects are
exported with every function that was traced, and a resumed run does not trace those of earlier epochs.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.runner.checkpoint.state.encoding import UncapturableError
from samebits.runner.compat.patches import Patches

_FILE = "saved_model.pb"


class ExportedModels:
    """The folders of exported models in the outputs, and beside the script in the folder `code`."""

    def __init__(self, code: str) -> None:
        self._code = code
        self._repeatable: dict[Path, Digest] = {}
        self._before: frozenset[Path] = frozenset()

    def install(self, patches: Patches) -> None:
        """Let models be exported during training by `model.export`."""
        import keras

        patches.wrap((keras.Model, "export"), self._noted)

    def begin_phase(self) -> None:
        """Note what is there before the training."""
        self._before = self._folders()

    def check(self) -> None:
        """Raise UncapturableError for a model that was not there before, and may have other bytes in a resumed run."""
        for folder in sorted(self._folders() - self._before):
            # The script may have written another model there since.
            if self._repeatable.get(folder) == Digest.of_file(folder / _FILE):
                continue
            raise UncapturableError(
                f"the model {folder.name} is exported during training, which writes other bytes in a resumed run;"
                " use model.export, or save it as a .keras file"
            )

    def _noted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def export(model: Any, filepath: Any, *arguments: Any, **options: Any) -> Any:
            made = original(model, filepath, *arguments, **options)
            folder = Path(os.path.realpath(filepath))
            if (folder / _FILE).is_file():  # other formats have no such file
                self._repeatable[folder] = Digest.of_file(folder / _FILE)
            return made

        return export

    def _folders(self) -> frozenset[Path]:
        tops = {self._code, os.environ.get("SAMEBITS_OUTPUT", self._code)}
        found = {folder for top in tops for folder, _, files in os.walk(top) if _FILE in files}
        return frozenset(Path(os.path.realpath(folder)) for folder in found)
