"""Carry out prepared runs, each forked from this process, which has TensorFlow imported: `state_matrix.py FOLDERS`.

The file holds a JSON list of run folders. What a run prints is appended to its folder's `printed.txt`.
"""

import gc
import json
import os
import sys
import tempfile
from pathlib import Path

import h5py  # noqa: F401
import keras  # noqa: F401
import numpy.ma
import numpy.random  # noqa: F401
import tensorflow as tf  # noqa: F401

from samebits.core.record import read_record
from samebits.core.run_dir import RunDir
from samebits.runner.determinism import portability
from samebits.runner.determinism.fingerprint import Fingerprint
from samebits.runner.determinism.op_audit import c_library, read_proven
from samebits.runner.session import Session


class KnownFingerprint:
    """Stands for the process that computes one, which takes longer than these trainings."""

    def finish(self) -> Fingerprint:
        threads = int(os.environ["TF_NUM_INTRAOP_THREADS"])
        operations = read_proven().expected(c_library(), threads)
        return Fingerprint(operations=operations, onednn="Intel AVX2", intra_threads=threads, inter_threads=threads)


def carry_out(folder: RunDir) -> int:
    printed = os.open(folder.path / "printed.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(printed, number)
    # Each run has a home of its own, which takes its temporary files.
    home = Path(os.environ["HOME"]) / folder.path.name
    home.mkdir()
    os.environ.update(HOME=str(home), TMPDIR=str(home))
    tempfile.tempdir = None
    return Session(folder, read_record(folder.record), None).run()


setattr(portability, "FingerprintJob", KnownFingerprint)  # noqa: B010
# A collection in a child would copy every page of what is imported here.
gc.collect()
gc.freeze()
for name in json.loads(Path(sys.argv[1]).read_text()):
    process = os.fork()
    if process == 0:
        status = 70
        try:
            status = carry_out(RunDir(Path(name)))
        finally:
            os._exit(status)
    os.waitpid(process, 0)
