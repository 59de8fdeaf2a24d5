"""Private names of CPython's standard library; seen in 3.11 and 3.13."""

import glob
import random
from typing import Any

from samebits.runner.compat.patches import PatchTarget

ABC_STATE = "_abc_impl"
"""The attribute of every abstract class that holds its registry. It is not part of a script's state."""


def global_random() -> random.Random:
    """The generator behind `random.random` and the other functions of that module."""
    generator: random.Random = random._inst
    return generator


def entropy_location() -> PatchTarget:
    """The name under which `random` and `secrets` call `os.urandom`. NumPy's generators use it, too."""
    return random, "_urandom"


def globbers() -> list[Any]:
    """The classes of `glob` that hold a reference to `os.scandir` for pathlib; none before Python 3.13."""
    found = (getattr(glob, name, None) for name in ("_Globber", "_StringGlobber"))
    return [globber for globber in found if hasattr(globber, "scandir")]
