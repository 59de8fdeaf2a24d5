"""The changed clock: the class of dates stays, because compiled code builds on it."""

# ruff: noqa: DTZ002, DTZ005, DTZ006, DTZ011

import copy
import datetime as dt
import pickle
import time

from samebits.core.trial import CLOCK, Trial
from samebits.runner.compat.patches import Patches
from samebits.runner.trial.perturbations import perturb


class Stamp(dt.datetime):
    """A class of the user's."""


def test_the_clock_is_changed_in_place() -> None:
    real, before = dt.datetime, dt.datetime.now()
    with Patches() as patches:
        perturb(Trial(changed=(CLOCK,)), patches)
        assert dt.datetime is real
        moments = (dt.datetime.now(), dt.datetime.today(), dt.datetime.fromtimestamp(time.time()), Stamp.now())
        assert all((moment - before).days == 400 for moment in moments)
        assert (dt.datetime.now(dt.UTC) - before.astimezone()).days == 400
        assert (dt.date.today() - before.date()).days in {400, 401}
        assert type(Stamp.now()) is Stamp
        assert pickle.loads(pickle.dumps(moments[0])) == copy.deepcopy(moments[0]) == moments[0]
    assert abs(dt.datetime.now() - before) < dt.timedelta(hours=1)
