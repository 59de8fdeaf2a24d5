"""What pip-compile says when it fails, as one line: which requirements contradict each other, or what is missing."""

import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from samebits.core.errors import ToolError, shorten
from samebits.host.image.lockfile import Pin
from samebits.host.interpreters import Interpreter
from samebits.host.subprocesses import run_tool

_UNREACHABLE = re.compile(
    r"connection broken|NewConnectionError|ConnectTimeout|ReadTimeout|Max retries|Connection refused"
    r"|Temporary failure in name resolution|\b(?:401|403|50\d) (?:Client|Server) Error"
)
_MISSING = re.compile(r"No matching distribution found for (\S+)|satisfies the requirement (\S+) \(from versions: ")
_WANTED = re.compile(r"RequirementInformation\(requirement=\w+\('([^']+)'\), parent=(?:None|\w+\('([^'# ]+))")
_OTHER_WHEEL = re.compile(r"Skipping link: none of the wheel's tags \(cp(\d)(\d+)-")
_WHEEL = re.compile(r"([A-Za-z0-9_.]+?)-([^-]+)-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """A requirement in a contradiction; `by` is the name and version of what needs it, None for the project itself."""

    requirement: Requirement
    by: tuple[str, str] | None

    def __str__(self) -> str:
        return f"{'the project' if self.by is None else ' '.join(self.by)} needs {self.requirement}"

    @property
    def name(self) -> str:
        """The canonical name of what is needed."""
        return canonicalize_name(self.requirement.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contradiction:
    """A requirement that samebits's pin does not meet."""

    wish: Wish
    pin: Pin

    def __str__(self) -> str:
        return f"{self.wish}, and samebits pins {self.pin}"


def contradictions(wishes: Iterable[Wish], own: Sequence[Pin]) -> list[Contradiction]:
    """The requirements that samebits's pins do not meet."""
    pins = {pin.name: pin for pin in own}
    found = ((wish, pins[wish.name]) for wish in wishes if wish.name in pins)
    return [
        Contradiction(wish=wish, pin=pin)
        for wish, pin in found
        if not wish.requirement.specifier.contains(pin.version, prereleases=True)
    ]


def all_wishes(output: str) -> list[Wish]:
    """The requirements in pip's last message that contradict each other."""
    return list(dict.fromkeys(_wishes(output)))


def _wishes(output: str) -> Iterator[Wish]:
    for text, url in _WANTED.findall(output):
        wheel = _WHEEL.match(url.rpartition("/")[2])
        yield Wish(requirement=Requirement(text), by=None if wheel is None else (canonicalize_name(wheel[1]), wheel[2]))


def is_conflict(output: str) -> bool:
    """Whether pip found no versions that agree."""
    return "ResolutionImpossible: for help" in output


def what_is_missing(output: str, interpreter: Interpreter) -> str | None:
    """Why an index has no wheel for a requirement, and what to do; None if pip failed otherwise."""
    if _UNREACHABLE.search(output):
        return "an index does not answer; check the network, and the indexes in pip's settings"
    match = _MISSING.search(output)
    if match is None:
        return None
    name = Requirement(match[1] or match[2]).name
    python = f"Python {interpreter.minor[0]}.{interpreter.minor[1]}"
    versions, others = _versions_and_pythons(name, interpreter)
    if versions is None and others:
        listed = ", ".join(others)
        return f"{name} has no wheel for {python}, only for {listed}; choose one with python in samebits.toml"
    if versions is None:
        return f"no index has {name}; check its name on https://pypi.org"
    if _versions(name, interpreter, "--only-binary", ":all:") is None:
        build = f"build its wheel once with `samebits lock --build {name}`, which runs its code on this machine"
        return f"{name} has no wheel for {python}, only its source; require a version that has one, or {build}"
    return f"no index has a wheel of {match[1] or match[2]} for {python}; there are versions {versions}"


def _versions_and_pythons(name: str, interpreter: Interpreter) -> tuple[str | None, list[str]]:
    """As `_versions`, and the Pythons of the wheels that pip passed over, by its log."""
    with tempfile.TemporaryDirectory(prefix="samebits-lock-") as folder:
        log = Path(folder) / "log"
        versions = _versions(name, interpreter, "--log", str(log))
        text = log.read_text(errors="replace") if log.exists() else ""
    pythons = sorted({(int(major), int(minor)) for major, minor in _OTHER_WHEEL.findall(text)})
    return versions, [f"{major}.{minor}" for major, minor in pythons]


def _versions(name: str, interpreter: Interpreter, *options: str) -> str | None:
    """The newest versions of a distribution, or None if no index has any."""
    asking = (str(interpreter.path), "-m", "pip", "index", "versions", "--disable-pip-version-check")
    command = [*asking, *options, name]
    try:
        answer = run_tool(command, what=f"looking {name} up", limit=60, variables=interpreter.tools)
        listed = re.search(r"Available versions: (.*)", answer)
    except ToolError:
        return None
    return None if listed is None else shorten(listed[1].split(", "), 4)
