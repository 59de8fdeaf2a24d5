"""The script that Slurm starts on a node: bash that becomes the launcher, with an environment of its own."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import samebits
from samebits import __version__
from samebits.core.environment import APPTAINER, DOCKER, PODMAN
from samebits.core.errors import InputError
from samebits.core.run_config import CONTAINER
from samebits.host import apptainer

NOT_SHARED = 66
"""The exit status of a batch script that does not see what it needs."""

NOT_BEGUN = (f"{NOT_SHARED}:0", "0:53")
"""Slurm's exit codes of a job whose node does not see its folder. The second: it cannot print there."""

TASK = "SLURM_ARRAY_TASK_ID"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "SAMEBITS_CACHE", "SLURM_CONF")
"""What the launcher needs to find cache and Slurm. None of it reaches the script."""

_OF_ENGINES = {
    DOCKER: ("DOCKER_HOST", "DOCKER_CONFIG", "SAMEBITS_BASE"),
    PODMAN: ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF"),
    APPTAINER: (),
}
"""What it needs to find an engine."""

RESTARTS = "SLURM_RESTART_COUNT"
"""How often Slurm had started the job before; not there at first."""

_OF_SLURM = ("SLURM_JOB_ID", "SLURMD_NODENAME", RESTARTS, TASK)


def batch_script(
    *, needs: Path, flags: Sequence[str], arguments: Sequence[str], more: str = "", runtime: str = CONTAINER
) -> str:
    """A script that calls the node's part with some arguments, and `more` as a shell reads it.

    `needs` is a file that the node must see; `runtime` is what the node may train in.
    """
    directives = "\n".join(f"#SBATCH {_quoted(flag)}" for flag in ("--job-name=samebits", *flags, "--export=NIL"))
    words = [sys.executable, "-P", "-m", "samebits.host.cli.node", *arguments]
    return f"""#!/bin/bash
# Written by samebits {__version__}.
{directives}

# A node that does not share the folder of runs must not begin.
test -r {shlex.quote(str(needs))} || exit {NOT_SHARED}

# Nothing of the submitter's environment but where cache, engine and Slurm are. Signals reach the launcher itself.
exec env -i {" ".join(_variables(runtime))} \\
  {shlex.join(words)}{more}
"""


def output_pattern(folder: Path) -> str:
    """How a folder is named in `--output`, where Slurm replaces what follows a percent sign; raises InputError."""
    # A backslash would end all replacements, and a line the directive.
    if re.search(r"[\\\x00-\x1f]", str(folder)):
        raise InputError(
            f"Slurm cannot print to {str(folder)!r}; name a folder of runs without such characters: --runs"
        )
    return str(folder).replace("%", "%%")


def _quoted(flag: str) -> str:
    """A flag as sbatch reads it from a script: not as a shell does, but with backslashes that escape anywhere."""
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", flag):
        return flag
    return '"' + re.sub(r'(["\\])', r"\\\1", flag) + '"'


def _variables(runtime: str) -> list[str]:
    """Assignments for `env`; those of Slurm are only known on the node."""
    source = Path(samebits.__file__).resolve().parents[1]
    engines = tuple(_OF_ENGINES) if runtime == CONTAINER else tuple({runtime} & set(_OF_ENGINES))
    passed = (*_PASSED, *(name for engine in engines for name in _OF_ENGINES[engine]))
    return [
        f"PATH={shlex.quote(_path(engines))}",
        "LANG=C.UTF-8",
        f"PYTHONPATH={shlex.quote(str(source))}",
        *(f"{name}={shlex.quote(os.environ[name])}" for name in passed if os.environ.get(name)),
        *(f'{name}="${{{name}:-}}"' for name in _OF_SLURM),
    ]


def _path(engines: tuple[str, ...]) -> str:
    """Where programs are; a site may have Apptainer elsewhere, at the same place on all nodes."""
    found = shutil.which(apptainer.PROGRAM) if APPTAINER in engines else None
    folder = None if found is None else os.path.dirname(found)
    return _PATH if folder is None or folder in _PATH.split(":") else f"{_PATH}:{folder}"
