"""The modules of `tools/gpu`, which are no package of samebits: they are imported from the checkout."""

import sys

from support.command import ROOT

sys.path.insert(0, str(ROOT))

from tools.gpu import fatbin, join, left_out, pack, prove, steps, table, trainings

__all__ = ["fatbin", "join", "left_out", "pack", "prove", "steps", "table", "trainings"]
