"""Settings of the libraries that scripts plot and tabulate with, and the open figures of pyplot.

No attribute of a script leads to them, and outputs are made of them after the training.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from samebits.core.digest import Digest
from samebits.runner.compat.pyplot_private import open_figures

_RESOLVED = ("backend", "backend_fallback")
"""Parameters that matplotlib sets itself when it first draws."""
_LISTS = ("lines", "patches", "collections", "images", "texts", "artists", "tables", "legends")
_GETTERS = (
    *("get_xydata", "get_array", "get_offsets", "get_data", "get_text", "get_title", "get_xlabel", "get_ylabel"),
    *("get_color", "get_facecolor", "get_visible", "get_position", "get_width", "get_height", "get_xy"),
)


def imported_libraries() -> frozenset[str]:
    """Those of these libraries that are imported."""
    return frozenset(name for name in _SETTINGS if name in sys.modules)


def settings_of_plots(libraries: Collection[str]) -> dict[str, str]:
    """The settings of these libraries, and what is drawn so far. Comparable within one process only."""
    found = {f"a setting of {name}": repr(_SETTINGS[name](sys.modules[name])) for name in sorted(libraries)}
    return found | {"an open figure of pyplot (close it in the epoch that draws it)": repr(list(_figures()))}


def _figures() -> Iterator[tuple[int, int, list[str]]]:
    for number, figure in open_figures():
        yield number, id(figure), _content(figure)


def _content(figure: Any) -> list[str]:
    """What is drawn in a figure. Ticks and layout, which matplotlib computes when it draws, are left out."""
    artists = [*figure.axes, *_in_lists(figure), *(artist for axes in figure.axes for artist in _in_lists(axes))]
    return [f"{type(artist).__name__} {id(artist):x} {_shown(artist)}" for artist in artists]


def _in_lists(holder: Any) -> Iterator[Any]:
    for name in _LISTS:
        yield from getattr(holder, name, ())


def _shown(artist: Any) -> str:
    values = [getattr(artist, name)() for name in _GETTERS if hasattr(artist, name)]
    texts = [str(Digest.of_bytes(value.tobytes())) if hasattr(value, "tobytes") else repr(value) for value in values]
    return str(Digest.of_json(texts))


def _of_matplotlib(module: Any) -> list[tuple[str, Any]]:
    return sorted((name, value) for name, value in module.rcParams.items() if name not in _RESOLVED)


def _of_pandas(module: Any) -> list[tuple[str, Any]]:
    return list(_options("", module.options))


def _options(prefix: str, options: Any) -> Iterator[tuple[str, Any]]:
    for name in dir(options):
        value = getattr(options, name)
        if type(value) is type(options):
            yield from _options(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def _of_sklearn(module: Any) -> list[tuple[str, Any]]:
    return sorted(module.get_config().items())


_SETTINGS: Mapping[str, Callable[[Any], list[tuple[str, Any]]]] = {
    "matplotlib": _of_matplotlib,
    "pandas": _of_pandas,
    "sklearn": _of_sklearn,
}
