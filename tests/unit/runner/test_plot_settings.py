"""What a callback leaves in pyplot is seen; tests/command/test_project_packages.py has the real libraries."""

import itertools
import sys
from types import ModuleType, SimpleNamespace

import pytest

from samebits.runner.checkpoint.process_state import process_settings
from samebits.runner.checkpoint.process_state.plot_settings import imported_libraries, settings_of_plots


class _Line:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def get_xydata(self) -> memoryview:
        return memoryview(self.data)


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An open figure with one line."""
    helpers, library = ModuleType("matplotlib._pylab_helpers"), ModuleType("matplotlib")
    figure = SimpleNamespace(axes=[SimpleNamespace(lines=[_Line(b"0")])])
    helpers.Gcf = SimpleNamespace(figs={1: SimpleNamespace(num=1, canvas=SimpleNamespace(figure=figure))})  # type: ignore[attr-defined]
    library.rcParams = {"figure.dpi": 100, "backend": "auto"}  # type: ignore[attr-defined]
    for module in (library, helpers):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return figure


def test_each_change_is_seen(figure: SimpleNamespace) -> None:
    names = imported_libraries()
    seen = [settings_of_plots(names)]
    figure.axes[0].lines[0].data = b"1"
    seen.append(settings_of_plots(names))
    figure.axes[0].lines.append(_Line(b"2"))
    seen.append(settings_of_plots(names))
    sys.modules["matplotlib"].rcParams["figure.dpi"] = 200
    seen.append(settings_of_plots(names))
    assert all(one != other for one, other in itertools.pairwise(seen))
    sys.modules["matplotlib"].rcParams["backend"] = "agg"  # matplotlib itself resolves it
    assert settings_of_plots(names) == seen[-1]


def test_they_are_compared_while_a_script_trains() -> None:
    assert "settings_of_plots" in process_settings.ProcessSettings.now.__code__.co_names
