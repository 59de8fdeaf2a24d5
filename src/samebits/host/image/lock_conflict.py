"""What pip-compile says when it fails, as one line: which requirements contradict each other, or what is missing."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
_WHEEL = re.compile(r"([A-Za-z0-9_.]+?)-([^-]+)-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """A requirement that contradicts samebits's pin; `by` is the name and version of what needs it, if it is known."""

    requirement: Requirement
    pin: Pin
    by: tuple[str, str] | None

    def __str__(self) -> str:
        who = "the project" if self.by is None else " ".join(self.by)
        return f"{who} needs {self.requirement}, and samebits pins {self.pin}"


def contradictions(output: str, own: Sequence[Pin]) -> list[Wish]:
    """The requirements in pip's last message that samebits's pins do not meet."""
    pins = {pin.name: pin for pin in own}
    found = dict.fromkeys(_wishes(output))
    wishes = []
    for text, by in found:
        requirement = Requirement(text)
        pin = pins.get(canonicalize_name(requirement.name))
        if pin is not None and not requirement.specifier.contains(pin.version, prereleases=True):
            wishes.append(Wish(requirement=requirement, pin=pin, by=by))
    return wishes


def all_wishes(output: str) -> str:
    """Every requirement in pip's message, for a contradiction among the project's own."""
    found = dict.fromkeys(_wishes(output))
    lines = [f"{'the project' if by is None else ' '.join(by)} needs {text}" for text, by in found]
    return shorten(lines, 4)


def _wishes(output: str) -> Iterator[tuple[str, tuple[str, str] | None]]:
    for text, url in _WANTED.findall(output):
        wheel = _WHEEL.match(url.rpartition("/")[2])
        yield text, None if wheel is None else (canonicalize_name(wheel[1]), wheel[2])


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
    versions = _versions(name, interpreter)
    python = f"Python {interpreter.minor[0]}.{interpreter.minor[1]}"
    if versions is None:
        return f"no index has {name}; check its name on https://pypi.org"
    if _versions(name, interpreter, "--only-binary", ":all:") is None:
        build = f"build its wheel once with `samebits lock --build {name}`, which runs its code on this machine"
        return f"{name} has no wheel for {python}, only its source; require a version that has one, or {build}"
    return f"no index has a wheel of {match[1] or match[2]} for {python}; there are versions {versions}"


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
