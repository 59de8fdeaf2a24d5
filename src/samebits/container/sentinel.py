"""Notices where a script takes randomness that no seed reaches: the operating system's, or an unseeded generator's.

Whatever asks for it in Python, NumPy's generators too, comes through a few functions. Who called is read from the
stack, only then; a run that takes none pays nothing. Libraries' own needs, as for names of temporary files, are not
the script's.
"""

import functools
import json
import linecache
import os
import random
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NoReturn

from samebits.container.process import say
from samebits.record import Taken

_DOORS = frozenset({"random", "secrets", "uuid", __name__})
"""Modules whose own calls are their callers'."""

_AUTOGRAPH = f"{os.sep}autograph{os.sep}"
_MOST = 100  # places that are recorded


class Sentinel:
    """Watches the code under a folder. `stop` raises in the script, and is called where the run is strict."""

    def __init__(self, code: Path, *, stop: Callable[[str], NoReturn] | None = None) -> None:
        self._code = os.path.join(code, "")
        self._stop = stop
        self._seen: set[tuple[str, int, str]] = set()
        self._notes = os.memfd_create("entropy")  # shared with processes that are forked off the script's

    def install(self) -> None:
        """Put a watch on the doors; before the script is imported, and after TensorFlow is."""
        os.urandom = self._watched(os.urandom)
        os.getrandom = self._watched(os.getrandom)
        # NumPy's generators come here, too, by way of `secrets`.
        random._urandom = self._watched(random._urandom)  # type: ignore[attr-defined]  # noqa: SLF001
        uuid.uuid1 = self._watched(uuid.uuid1)
        random.Random.seed = self._unless_given(random.Random.seed, 1)  # type: ignore[method-assign]
        random.seed = self._unless_given(random.seed, 0)

    def found(self) -> list[Taken]:
        """Every place, in the order of the lines."""
        size = os.fstat(self._notes).st_size
        lines = os.pread(self._notes, size, 0).decode().splitlines()
        counted = Counter(tuple(json.loads(line)) for line in lines)
        places = sorted(
            Taken(path=path, line=line, call=call, times=times) for (path, line, call), times in counted.items()
        )
        return places[:_MOST]

    def _watched(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def watched(*given: Any, **named: Any) -> Any:
            self._look()
            return original(*given, **named)

        return watched

    def _unless_given(self, original: Callable[..., Any], position: int) -> Callable[..., Any]:
        """Seeding with nothing is what counts."""

        @functools.wraps(original)
        def seed(*given: Any, **named: Any) -> Any:
            if (given[position] if len(given) > position else named.get("a")) is None:
                self._look()
            return original(*given, **named)

        return seed

    def _look(self) -> None:
        """Note it if the script asked; raises SettingError then where the run is strict."""
        place = _caller(sys._getframe(1), self._code)  # noqa: SLF001  there is no public name
        if place is None:
            return
        os.write(self._notes, (json.dumps(place) + "\n").encode())
        path, line, call = place
        if self._stop is not None:
            self._stop(
                f"{path}:{line}: {call} takes randomness that no seed reaches, and the run is strict; give it a seed,"
                " or drop --strict"
            )
        if place not in self._seen:
            self._seen.add(place)
            say(f"{path}:{line}: {call} takes randomness that no seed reaches; what follows from it will not repeat")


def _caller(frame: FrameType | None, code: str) -> tuple[str, int, str] | None:
    """File, line and words of the script that a call came from; None where it was a library's own."""
    while frame is not None:
        file, line = frame.f_code.co_filename, frame.f_lineno
        if _AUTOGRAPH in file or "__autograph_generated_file" in file:
            written = _written(file, line)
            if written is not None and written[0].startswith(code):
                return written[0].removeprefix(code), written[1], linecache.getline(*written).strip()
        elif file.startswith(code):
            return file.removeprefix(code), line, _words(frame.f_code, frame.f_lasti, file, line)
        elif frame.f_globals.get("__name__") not in _DOORS and not file.startswith("<"):
            return None
        frame = frame.f_back
    return None


def _words(code: CodeType, instruction: int, file: str, line: int) -> str:
    """The call that goes on, as it is written; of several lines the first."""
    text = linecache.getline(file, line)
    first, last, begin, end = list(code.co_positions())[instruction // 2]
    if first != line or begin is None or end is None:
        return text.strip()
    encoded = text.encode()  # columns are counted in bytes
    return encoded[begin : end if last == line else None].decode(errors="replace").strip()


def _written(file: str, line: int) -> tuple[str, int] | None:
    """Where AutoGraph took a line of its own from."""
    from tensorflow.python.autograph.impl import api
    from tensorflow.python.autograph.pyct import origin_info

    place = origin_info.LineLocation(filename=file, lineno=line)
    for versions in list(api._TRANSPILER._cache._cache.values()):  # noqa: SLF001  there is no public way
        for factory in versions.values():
            origin = factory.source_map.get(place)
            if origin is not None:
                return origin.loc.filename, origin.loc.lineno
    return None
