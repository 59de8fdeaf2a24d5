"""Train families under the portable profile with one of its parts taken away: `without.py PART FAMILY...`.

Prints the models' digests, and the operations whose fingerprint is not the table's, as one line of JSON.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

from samebits.core.determinism_profile import Profile

part, families = sys.argv[1], sys.argv[2:]
variables = Profile(name="portable", threads=1).variables
OTHERWISE = {"TF_ENABLE_ONEDNN_OPTS": "0", "OPENBLAS_NUM_THREADS": "2"}
if part in OTHERWISE:
    variables[part] = OTHERWISE[part]
else:
    variables.pop(part, None)
os.environ.update(variables)

from samebits.core.digest import Digest  # noqa: E402
from samebits.core.ledger import Ledger  # noqa: E402
from samebits.core.recipe import Code  # noqa: E402
from samebits.host.rerun.golden import models  # noqa: E402
from samebits.runner.compat.patches import Patches  # noqa: E402
from samebits.runner.determinism import exact_ops as exact  # noqa: E402
from samebits.runner.determinism import ordered_sums  # noqa: E402
from samebits.runner.determinism import settings as determinism  # noqa: E402
from samebits.runner.determinism.fingerprint import FingerprintJob  # noqa: E402
from samebits.runner.determinism.op_audit import read_proven  # noqa: E402
from samebits.runner.observe.observer import Observer  # noqa: E402
from samebits.runner.process.signals import Signals  # noqa: E402
from samebits.runner.script_runner import run_script  # noqa: E402

threads = {"threads": 2, "4 threads": 4}.get(part, 1)
exact.REWRITES = tuple(name for name in exact.REWRITES if name != part)
exact.REPLACED = tuple(function for function in exact.REPLACED if function.__name__ != part)
if part == ordered_sums.OPTIMIZATION:
    # The fixed order of sums switches it off as well.
    ordered_sums.OPTIMIZATION = exact.REWRITES[0]
if part == "qr":
    exact._exact_qr = lambda original: original

patches = Patches()
profile = Profile(name="portable", threads=1)
with patch.object(Profile, "portable", True):
    object.__setattr__(profile, "threads", threads)
    determinism.seed_everything(0, profile, patches)
differing = FingerprintJob().finish().differing(read_proven().fingerprint)
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    with Ledger(folder / "ledger", Digest.of_json({})) as ledger:
        observer = Observer(ledger, folder)
        observer.install(patches)
        code = Code(tree=Digest.of_bytes(b""), entry="train.py", arguments=tuple(families))
        folder = Path(__file__).parents[2] / "examples" / "families"
        outcome = run_script(folder, code, Signals())
        result = observer.finish()
print(
    json.dumps(
        {
            "outcome": outcome.state,
            "models": models(result),
            "fingerprint": differing,
        }
    )
)
