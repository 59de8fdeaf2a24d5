"""Whose code may run on this host itself, outside of a container.

Who sends a run writes its record, its script and its copy of samebits. Only what this machine's launcher has trained on
the host before, or what the user names, is executed there again. What was trained is noted in the cache, where no run
can write: a digest of everything in the recipe that is executed.
"""

import json
import shlex
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import RecordError, StorageError, UntrustedError
from samebits.core.jsonio import Fields, readable_json, write_atomically
from samebits.core.recipe import Recipe
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host.cache_dir import cache_folder, read_own


def executed_code(recipe: Recipe) -> Digest:
    """The digest of a recipe without the version of Python, which the host may update."""
    values = recipe.to_dict()
    return Digest.of_json({**values, "image": {**values["image"], "python": None}})


def note_trained(recipe: Recipe, run: RunDir) -> None:
    """Note that this launcher executes a recipe on the host. Without the note, a later run needs the option."""
    code = executed_code(recipe)
    note = {"code": str(code), "run": str(run.path.absolute())}
    try:
        write_atomically(_path(code), readable_json(note), mode=0o600)
    except (StorageError, ValueError):  # ValueError: the path is no UTF-8
        return


def was_trained_here(recipe: Recipe) -> bool:
    """Whether this launcher has executed the same code on the host before."""
    code = executed_code(recipe)
    try:
        # A note that another user could have written says nothing.
        return Fields(json.loads(read_own(_path(code)))).get("code", str) == str(code)
    except (OSError, ValueError, RecordError, StorageError):
        return False


def is_named(run: RunDir, record: Record, trusted: tuple[str, ...]) -> bool:
    """Whether the user has named this run as one whose code is trusted."""
    return record.id in trusted or run.path.name in trusted


def require_trust(run: RunDir, record: Record, trusted: tuple[str, ...]) -> None:
    """Raise UntrustedError unless a run's code may be executed on this host."""
    if not (was_trained_here(record.recipe) or is_named(run, record, trusted)):
        raise UntrustedError(
            f"the code of {record.id} would run on this host outside of a container, and was not trained here before;"
            f" read it, then add {advice(record)}"
        )


def advice(record: Record) -> str:
    """The option that names a run, to be copied: its id may hold what a shell would execute."""
    return f"--trust-its-code {shlex.quote(record.id)}"


def _path(code: Digest) -> Path:
    return cache_folder("trained") / f"{code.hex}.json"
