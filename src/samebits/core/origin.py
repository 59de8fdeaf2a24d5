"""Where a run comes from: its script and data, and the run that it verifies or resumes."""

import re
from dataclasses import dataclass
from typing import Any

from samebits.core.checkpoint_store import Position
from samebits.core.errors import RecordError, pluralize
from samebits.core.home_path import present_path
from samebits.core.jsonio import Fields
from samebits.core.known_digests import CacheUse


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifiedRun:
    """The run that another one verifies: its id, and the checksum of its record."""

    id: str
    checksum: str

    def to_dict(self) -> dict[str, str]:
        """As the record holds it."""
        return {"id": self.id, "seal": self.checksum}

    @classmethod
    def from_fields(cls, fields: Fields) -> "VerifiedRun":
        """Read what `to_dict` wrote."""
        return cls(id=fields.get("id", str), checksum=fields.get("seal", str))


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumedRun:
    """The run that another one resumes, from `checkpoint` (None: the beginning) to `until` (None: the end).

    `replays` is the checkpoint of the resumed run that must be reproduced before the training goes on, `reproduced`
    whether it was. `trusted` says that the user skipped that proof. `fingerprint` is the digest of how the machine of
    the resumed run computes. These four came with version 1.4 of the record.
    """

    id: str
    checksum: str
    checkpoint: Position | None = None
    until: Position | None = None
    replays: Position | None = None
    reproduced: bool = False
    trusted: bool = False
    fingerprint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        places = {"checkpoint": self.checkpoint, "until": self.until, "replays": self.replays}
        return {
            "id": self.id,
            "seal": self.checksum,
            **{name: None if place is None else place.name for name, place in places.items()},
            "reproduced": self.reproduced,
            "trusted": self.trusted,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "ResumedRun":
        """Read what `to_dict` wrote, in this version or before."""
        names = fields.names()
        checkpoint, until, replays = (_position(fields, name) for name in ("checkpoint", "until", "replays"))
        reproduced, trusted = (name in names and fields.get(name, bool) for name in ("reproduced", "trusted"))
        return cls(
            id=fields.get("id", str),
            checksum=fields.get("seal", str),
            checkpoint=checkpoint,
            until=until,
            replays=replays,
            reproduced=reproduced,
            trusted=trusted,
            fingerprint=fields.optional("fingerprint", str),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class GitCommit:
    """The git commit that the code is of, how many of its files are not as in that commit, and the remote's URL."""

    commit: str
    changed: int = 0
    remote: str | None = None

    @property
    def dirty(self) -> bool:
        """Whether the code is not that of the commit."""
        return self.changed > 0

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return {"commit": self.commit, "dirty": self.dirty, "changed": self.changed, "remote": self.remote}

    @classmethod
    def from_fields(cls, fields: Fields) -> "GitCommit":
        """Read what `to_dict` wrote; raises RecordError where `dirty` contradicts the number of changed files."""
        found = cls(
            commit=fields.parse("commit", _commit_id),
            changed=fields.get("changed", int),
            remote=fields.optional("remote", str),
        )
        if fields.get("dirty", bool) != found.dirty:
            raise RecordError(f"'{fields.path('dirty')}' must be {found.dirty}, as 'changed' is {found.changed}")
        return found

    def __str__(self) -> str:
        return f"{self.commit}, {pluralize(self.changed, 'file')} changed" if self.dirty else self.commit


def _commit_id(text: str) -> str:
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text) is None:
        raise RecordError(f"{text!r} is no id of a commit")
    return text


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Paths of script and data on the machine of the run, and the run that it verifies or resumes.

    They are absolute, or begin with `~` for the home of whoever trained, which would name the user.

    `trusted_code` says that the user named that run with `--trust-its-code`. It came with version 1.5 of the record.
    `git` is no part of the recipe. It came with 1.7. `attempts` are the ids of the earlier runs of a job on a cluster,
    oldest first. It came with 1.8. `data_cache` says how many data files were not read before the run. It came with
    1.9.
    """

    script: str
    data: str | None = None
    verifies: VerifiedRun | None = None
    resumes: ResumedRun | None = None
    trusted_code: bool = False
    git: GitCommit | None = None
    attempts: tuple[str, ...] = ()
    data_cache: CacheUse | None = None

    @property
    def data_folder(self) -> str | None:
        """Where the data was, for the user who asks."""
        return None if self.data is None else present_path(self.data)

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return {
            "script": self.script,
            "data": self.data,
            **({} if self.verifies is None else {"verifies": self.verifies.to_dict()}),
            **({} if self.resumes is None else {"resumes": self.resumes.to_dict()}),
            **({"trusted_code": True} if self.trusted_code else {}),
            **({} if self.git is None else {"git": self.git.to_dict()}),
            **({"attempts": list(self.attempts)} if self.attempts else {}),
            **({} if self.data_cache is None else {"data_cache": self.data_cache.to_dict()}),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "Origin":
        """Read what `to_dict` wrote; raises RecordError with the path of what is wrong."""
        names = ("verifies", "resumes", "git", "data_cache")
        verifies, resumes, git, cache = map(fields.optional_inner, names)
        return cls(
            script=fields.get("script", str),
            data=fields.optional("data", str),
            verifies=None if verifies is None else VerifiedRun.from_fields(verifies),
            resumes=None if resumes is None else ResumedRun.from_fields(resumes),
            trusted_code=fields.optional("trusted_code", bool) or False,
            git=None if git is None else GitCommit.from_fields(git),
            attempts=fields.texts("attempts"),
            data_cache=None if cache is None else CacheUse.from_fields(cache),
        )


def _position(fields: Fields, name: str) -> Position | None:
    return None if fields.optional(name, str) is None else fields.parse(name, Position.parse)
