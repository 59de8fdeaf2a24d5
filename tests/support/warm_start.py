"""Trainings that start warm: not yet."""

import pytest


def enter(patch: pytest.MonkeyPatch) -> None:
    from samebits.host.launch.venv import locked_python

    locked_python()


def leave(patch: pytest.MonkeyPatch) -> None:
    pass
