"""Which git commit the code of a run is of, and whether the recorded files are those of that commit.

Git only reads objects and names here. A repository's own configuration may name programs to run: the file system
monitor, hooks, filters, and what fetches objects that a partial clone lacks. None of these can start.
"""

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from samebits.core.errors import ToolError
from samebits.core.file_tree import Tree, TreeEntry
from samebits.core.home_path import without_home
from samebits.core.origin import GitCommit
from samebits.core.printable import printable
from samebits.core.run_setup import PlannedRun
from samebits.host.console import log
from samebits.host.subprocesses import run_tool

_OPTIONS = ("--no-pager", "--no-replace-objects", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
# The list of protocols takes precedence over every configuration. Older versions of git lack the second variable.
_VARIABLES = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
_KEPT = ("GIT_CONFIG", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM")
_LIMIT_SECONDS = 8.0
_MAX_REMOTE = 500
_SCHEMES = ("https", "http", "ssh", "git", "file")
_SCP = re.compile(r"(?:([^@/:]*)@)?([^@/:]+):(?!:)(.*)")
_GIT_USER = re.compile(r"^(?:ssh://)?git@")
_SUBMODULE, _LINK, _EXECUTABLE = "160000", "120000", "100755"
_POINTER = "version https://git-lfs.github.com/spec/v1\noid {digest}\nsize {size}\n"

_Committed = Mapping[str, tuple[str, str]]
"""Mode and object id, by path."""


def with_commit(planned: PlannedRun) -> PlannedRun:
    """The run with the commit of its code, for the record."""
    return replace(planned, setup=replace(planned.setup, git=find_commit(planned)))


def find_commit(planned: PlannedRun) -> GitCommit | None:
    """The commit of the code of a run that is planned; None where the code is in no repository, or cannot be read."""
    folder = Path(os.path.realpath(planned.spec.code_folder))
    if not any(os.path.lexists(path / ".git") for path in (folder, *folder.parents)):
        return None
    try:
        commit = _git(folder, "rev-parse", "--verify", "HEAD^{commit}").strip()
        committed = dict(_committed(folder, commit))
        remote = _remote(folder)
    except ToolError as error:
        log(f"no git commit is recorded: {error}")
        return None
    # An ignored folder of a repository is no part of it.
    if not any(_source(entry, planned.converted) in committed for entry in planned.code.entries):
        return None
    changed = _changed(folder, planned.code, planned.converted, committed)
    return GitCommit(commit=commit, changed=changed, remote=remote)


def _git(folder: Path, *words: str) -> str:
    # A hook that starts a training has variables which name the repository of the hook.
    dropped = {name: None for name in os.environ if name.startswith("GIT_") and not name.startswith(_KEPT)}
    command = ("git", *_OPTIONS, "-C", os.fspath(folder), *words)
    return run_tool(command, what="git", limit=_LIMIT_SECONDS, variables={**dropped, **_VARIABLES})


def _committed(folder: Path, commit: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """The files of a commit beneath a folder, those of submodules included where their commits are here."""
    for line in _git(folder, "ls-tree", "-r", "-z", commit).split("\0"):
        head, _, path = line.partition("\t")
        if not path:
            continue
        mode, _, name = head.split(" ")
        yield path, (mode, name)
        if mode == _SUBMODULE and os.path.lexists(folder / path / ".git"):
            for inner, found in _committed(folder / path, name):
                yield f"{path}/{inner}", found


def _changed(folder: Path, code: Tree, converted: Collection[str], committed: _Committed) -> int:
    """How many files are not as in the commit: changed, added or removed. Hidden and excluded files do not count."""
    files = [entry for entry in code.entries if entry.digest is not None]
    changed = sum(not _is_committed(folder, entry, converted, committed) for entry in files)
    return changed + sum(not os.path.lexists(folder / path) for path in committed)


def _source(entry: TreeEntry, converted: Collection[str]) -> str:
    """The path of a file in the repository; a script made of a notebook is not there, but the notebook is."""
    return entry.path.removesuffix(".py") if entry.path in converted else entry.path


def _is_committed(folder: Path, entry: TreeEntry, converted: Collection[str], committed: _Committed) -> bool:
    path = _source(entry, converted)
    if path not in committed:
        return False
    mode, name = committed[path]
    try:
        if mode == _LINK:
            return _blob(os.fsencode(os.readlink(folder / path)), name) == name
        content = (folder / path).read_bytes()
    except OSError:
        return False
    if path == entry.path and (hashlib.sha256(content).hexdigest(), entry.executable) != (
        entry.digest and entry.digest.hex,
        mode == _EXECUTABLE,
    ):
        return False
    pointer = _POINTER.format(digest=entry.digest, size=entry.size).encode()
    return name in (_blob(content, name), _blob(pointer, name))


def _blob(content: bytes, like: str) -> str:
    """The id that git gives to a file's content, in the format of another id."""
    whole = b"blob %d\0%b" % (len(content), content)
    return hashlib.sha256(whole).hexdigest() if len(like) == 64 else hashlib.sha1(whole).hexdigest()  # noqa: S324


def _remote(folder: Path) -> str | None:
    """The URL of `origin`, or of the first other remote."""
    try:
        found = _git(folder, "config", "--null", "--get-regexp", r"^remote\..*\.url$")
    except ToolError:
        return None  # git fails where there is none
    urls = dict(reversed([line.split("\n", 1) for line in found.split("\0") if "\n" in line]))
    url = urls.get("remote.origin.url") or next(iter(reversed(urls.values())), None)
    return None if url is None else without_credentials(url)


def without_credentials(url: str) -> str | None:
    """A remote's URL without user, password, query and home folder; None for one of another kind.

    The user `git` of SSH stays, as a URL without it leads nowhere. Any other `@` may follow a secret: None as well.
    """
    if "://" in url:
        found = _plain_url(url)
    elif match := _SCP.fullmatch(url):
        found = f"git@{match[2]}:{match[3]}" if match[1] == "git" else f"{match[2]}:{match[3]}"
    else:
        found = None if "::" in url else url
    if found is None or "@" in _GIT_USER.sub("", found):
        return None
    return printable(without_home(found))[:_MAX_REMOTE]


def _plain_url(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number: a password may look like one
    except ValueError:
        return None
    # A password with `/`, `?` or `#` ends the part that names user and host.
    if parts.scheme not in _SCHEMES or "@" in parts.path + parts.query + parts.fragment:
        return None
    user, _, host = parts.netloc.rpartition("@")
    user = "git@" if user == "git" and parts.scheme == "ssh" else ""
    path = without_home(parts.path)
    # Behind a host, git has `/~/` for the home folder.
    return f"{parts.scheme}://{user}{host}{'/' if host and path.startswith('~') else ''}{path}"
