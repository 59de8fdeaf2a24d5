"""What a project requires: `requirements.in`, or the dependencies in `pyproject.toml`, read strictly."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from samebits.core.digest import Digest
from samebits.core.errors import InputError, reason_of
from samebits.core.toml_file import read_toml
from samebits.host.image.built_wheels import is_pinned
from samebits.host.image.lockfile import logical_lines, read_text

SOURCES = ("requirements.in", "pyproject.toml")
"""Where the requirements of a project stand, the first that there is."""

_OPTIONS = {
    "-i": "an index belongs to pip's own settings (PIP_INDEX_URL, pip.conf)",
    "--index-url": "an index belongs to pip's own settings (PIP_INDEX_URL, pip.conf)",
    "--extra-index-url": "an index belongs to pip's own settings (PIP_EXTRA_INDEX_URL, pip.conf)",
    "-r": "write its requirements here",
    "-c": "write its constraints here",
    "-e": "a lock holds published packages; leave the project's own code in its folder",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirements:
    """The requirements of a project, and the file that they stand in."""

    source: Path
    listed: tuple[Requirement, ...]

    @property
    def digest(self) -> Digest:
        """The digest of the requirements; comments and their order do not count."""
        return Digest.of_json(sorted(str(item) for item in self.listed))

    @property
    def names(self) -> set[str]:
        """The canonical names."""
        return {canonicalize_name(item.name) for item in self.listed}


def read_requirements(source: Path) -> Requirements:
    """The requirements in a `.in` file or a `pyproject.toml`.

    Raises InputError, with line or key, for what cannot be locked by hash: options, paths, URLs.
    """
    items = _of_pyproject(source) if source.suffix == ".toml" else _of_text(source)
    return Requirements(source=source, listed=tuple(_parse(text, place) for text, place in items))


def _of_text(source: Path) -> Iterator[tuple[str, str]]:
    for line, text in logical_lines(read_text(source, "the requirements", "write the names of packages into it")):
        yield text, f"{source}:{line}"


def _of_pyproject(source: Path) -> Iterator[tuple[str, str]]:
    try:
        project = read_toml(source).get("project", {})
        listed = project.get("dependencies", []) if isinstance(project, dict) else None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {source}: {reason_of(error)}; fix the file") from error
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise InputError(f"{source}: project.dependencies is not a list of texts; fix it")
    yield from ((item, f"{source}: project.dependencies") for item in listed)


def _parse(text: str, place: str) -> Requirement:
    if text.startswith("-"):
        option = text.split("=", 1)[0].split(maxsplit=1)[0]
        raise InputError(f"{place}: {option} is an option; {_OPTIONS.get(option, 'list packages only')}")
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        if "/" in text or text.startswith("."):
            raise InputError(f"{place}: {text!r} is a path or URL, {_UNHASHED}") from error
        raise InputError(f"{place}: {text!r} is no requirement; write a name, and a version if need be") from error
    if requirement.url and requirement.url.startswith("git+"):
        if not is_pinned(requirement.url):
            raise InputError(
                f"{place}: {requirement.name} comes from a repository without a commit; pin it, as in"
                f" {requirement.name} @ git+https://HOST/REPOSITORY@COMMIT, with all 40 digits"
            )
    elif requirement.url:
        raise InputError(f"{place}: {requirement.name} comes from {requirement.url}, {_UNHASHED}")
    return requirement


_UNHASHED = "which no hash of an index covers; require a published version, or put the source into the project's folder"
