"""Models that a script exports during training: a resumed run would write other bytes.

The files that resumed runs exported with TensorFlow 2.21 had other bytes.
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
            f"the model {folder.name} is exported during training, which writes other bytes in a resumed run;"
            " save it as a .keras file"
        )
