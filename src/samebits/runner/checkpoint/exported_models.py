"""Models that a script exports during training: files in TensorFlow's own format name functions by a count.

The count follows how many functions were traced in the process, so that a resumed run would write other bytes.
"""

import os
from collections.abc import Set as AbstractSet
from pathlib import Path

from samebits.runner.checkpoint.encoding import UncapturableError

_FILE = "saved_model.pb"


def exported_models(code: str) -> frozenset[Path]:
    """The folders of exported models in the outputs, and beside the script in the folder `code`."""
    tops = {code, os.environ.get("SAMEBITS_OUTPUT", code)}
    return frozenset(Path(folder) for top in tops for folder, _, files in os.walk(top) if _FILE in files)


def check_exported(code: str, before: AbstractSet[Path]) -> None:
    """Raise UncapturableError for a model that was not there before the training."""
    for folder in sorted(exported_models(code) - before):
        raise UncapturableError(
            f"the model {folder.name} is exported during training, and its file counts the functions that were traced;"
            " export it after training, or save it as a .keras file"
        )
