"""Carry out prepared runs one after the other in this process: `sessions.py CASES`, a file that is read and replaced.

A case is `{"folder": …, "versions": {library: version}, "gone": [name]}`; the answer to each its exit status, and the
patched attributes that are not the original objects afterwards.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from samebits.core.record import read_record
from samebits.core.run_dir import RunDir
from samebits.runner.compat import self_test
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism import portability
from samebits.runner.determinism.fingerprint import Fingerprint
from samebits.runner.determinism.op_audit import c_library, read_proven
from samebits.runner.session import Session

MISSING = object()
before: dict[tuple[int, str], tuple[Any, Any]] = {}
replace = Patches.replace
installed_versions, form_of = self_test.installed_versions, self_test.form_of


class KnownFingerprint:
    """Stands for the process that computes one: it can be forked off a fresh TensorFlow alone."""

    def finish(self) -> Fingerprint:
        threads = int(os.environ["TF_NUM_INTRAOP_THREADS"])
        operations = read_proven().expected(c_library(), threads)
        return Fingerprint(operations=operations, onednn="Intel AVX2", intra_threads=threads, inter_threads=threads)


def remembering(patches: Patches, owner: Any, name: str, value: Any) -> None:
    before.setdefault((id(owner), name), (owner, vars(owner).get(name, MISSING)))
    replace(patches, owner, name, value)


def carry_out(case: dict[str, Any]) -> dict[str, Any]:
    folder = RunDir(Path(case["folder"]))
    data = os.environ.get("SAMEBITS_DATA")
    gone = case.get("gone", [])
    with (
        patch.object(self_test, "installed_versions", lambda: installed_versions() | case.get("versions", {})),
        patch.object(self_test, "form_of", lambda name: None if name in gone else form_of(name)),
    ):
        status = Session(folder, read_record(folder.record), Path(data) if data else None).run()
    import keras

    keras.utils.clear_session()  # the names of layers are counted in a process
    left = [
        f"{owner}.{name}" for (_, name), (owner, old) in before.items() if vars(owner).get(name, MISSING) is not old
    ]
    return {"status": status, "patched": len(before), "left": left}


setattr(portability, "FingerprintJob", KnownFingerprint)  # noqa: B010
setattr(Patches, "replace", remembering)  # noqa: B010
path = Path(sys.argv[1]).absolute()
path.write_text(json.dumps([carry_out(case) for case in json.loads(path.read_text())]))
