"""Private names of CPython's standard library; seen in 3.11 and 3.13."""

import glob
import random
from typing import Any

from samebits.runner.compat.patches import Location

ABC_STATE = "_abc_impl"
"""The attribute of every abstract class that holds its registry; it is no state of the script's."""


def global_random() -> random.Random:
    """The generator behind `random.random` and its like."""
    generator: random.Random = random._inst
    return generator


def entropy_location() -> Location:
    """Where `random` and `secrets` have `os.urandom` under a name of their own; NumPy's generators come by it, too."""
    return random, "_urandom"


def globbers() -> list[Any]:
    """The classes of `glob` that keep `os.scandir` for pathlib; none before Python 3.13."""
    found = (getattr(glob, name, None) for name in ("_Globber", "_StringGlobber"))
    return [globber for globber in found if hasattr(globber, "scandir")]
