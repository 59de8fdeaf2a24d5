"""The configuration of a run: command line and `samebits.toml`, merged into one frozen value."""

import argparse
import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from samebits.core import declared_env
from samebits.core.determinism_profile import NATIVE, Profile, make_profile
from samebits.core.errors import InputError, RecordError
from samebits.core.inputs_lock import lock_of, read_declared
from samebits.core.jsonio import Fields, parse_digits
from samebits.core.project import CONFIG_NAME, CodeLayout, find_root, module_layout, script_layout
from samebits.core.recipe import KERAS_ORDER, KNOWN_LOGS, PER_EPOCH
from samebits.core.redaction import redact, require_absent, to_variable
from samebits.core.retention import LAST, RetentionPolicy
from samebits.core.trace_level import Trace
from samebits.core.trial import Trial
from samebits.core.user_config import read_options, refuse_users_own, require_inside, user_defaults
from samebits.core.workers import add_workers, check_workers

BITWISE = "bitwise"
METRICS = "metrics"
DOCUMENTED = "documented"
REPRODUCIBILITY_LEVELS = (BITWISE, METRICS, DOCUMENTED)
CONTAINER = "container"
RUNTIMES = ("auto", CONTAINER, "docker", "podman", "apptainer", "venv")
PYTHONS = ("3.11", "3.12", "3.13")
"""Those for which every package of samebits's own lock has a wheel."""
SHUFFLES = (KERAS_ORDER, PER_EPOCH)
_PATHS = ("data", "lock", "requirements", "runs", "workdir")  # relative to the folder of samebits.toml
_LISTS = ("arguments", "env", "exclude", "ignore_outputs")
_ELSEWHERE = ("on",)  # tables of samebits.toml that others read
_NOT_OPTIONS = ("script", "trial", "layout", "redacted")
_OF_LAYOUT = ("workdir", "pythonpath")
_OLD_KEYS = {"goal": "level"}  # accepted in samebits.toml, but not documented


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One requested training. Values are validated; files are not read yet.

    `env` holds `NAME=VALUE` for each variable that the script is meant to see. `inputs` is the lock of the files that
    it takes from the network. `redacted` are values that `arguments` lack, by the names of their options.
    """

    script: Path
    arguments: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    data: Path | None = None
    data_cache: bool = False
    inputs: Path | None = None
    seed: int = 0
    threads: int | None = None
    profile: str = NATIVE
    shuffle: str = KERAS_ORDER
    workers: int = 1
    trace: Trace = field(default_factory=Trace)
    keep: str = LAST
    checkpoint_every: int | None = None
    level: str = BITWISE
    runs: Path = field(default=Path("runs"))
    exclude: tuple[str, ...] = ()
    ignore_outputs: tuple[str, ...] = ()
    image: str | None = None
    gpus: str | None = None
    requirements: Path | None = None
    lock: Path | None = None
    runtime: str = "auto"
    python: str | None = None
    strict: bool = False
    trial: Trial | None = None
    layout: CodeLayout | None = None
    redacted: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise InputError(f"the seed must be from 0 to 4294967295 (NumPy takes 32 bits), not {self.seed}")
        check_level(self.level)
        _one_of("runtime", self.runtime, RUNTIMES)
        _one_of("shuffle", self.shuffle, SHUFFLES)
        if self.python is not None:
            _one_of("python", self.python, PYTHONS)
        if self.gpus is not None and self.gpus != "all" and not (parse_digits(self.gpus)):
            raise InputError(f"gpus must be 'all' or a number, not {self.gpus[:40]!r}")
        texts = (self.code.entry, self.code.workdir, *self.code.pythonpath, *self.arguments, *self.env, *self.exclude)
        for argument in (*texts, *self.ignore_outputs, self.image or ""):
            # Python reads undecodable bytes of the command line as surrogates, which UTF-8 cannot encode.
            if argument != argument.encode("utf-8", "replace").decode():
                raise InputError(f"not UTF-8: {os.fsencode(argument)!r}; rename it, as a record stores UTF-8 only")
        gpus, trial = self.gpus is not None, self.trial is not None
        check_workers(self.workers, gpus=gpus, trial=trial, trace=self.trace, every=self.checkpoint_every)
        # Both properties are built here once, so that invalid options fail before any work.
        self.determinism  # noqa: B018  validates name and threads
        self.retention  # noqa: B018  validates keep and checkpoint_every

    @property
    def determinism(self) -> Profile:
        """The determinism profile with its number of threads."""
        profile = make_profile(self.profile, self.threads, "cpu" if self.gpus is None else "gpu")
        return profile if self.trial is None else profile.in_trial(self.trial)

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that must be set before the interpreter starts."""
        trial = {} if self.trial is None else self.trial.variables
        return self.determinism.variables | trial | to_variable(self.redacted)

    @property
    def declared(self) -> dict[str, str]:
        """The variables that the script is meant to see, with their values."""
        return {name: value for name, _, value in (item.partition("=") for item in self.env)}

    @property
    def retention(self) -> RetentionPolicy:
        """The checkpoints to write and keep."""
        return RetentionPolicy(keep=self.keep, every=self.checkpoint_every)

    @property
    def code(self) -> CodeLayout:
        """The code's folder and how the script starts in it; without a layout, the script's folder is the code."""
        return self.layout or CodeLayout(folder=self.script.parent, entry=self.script.name, workdir=".")

    @property
    def code_folder(self) -> Path:
        """The folder whose files are the code."""
        return self.code.folder


def check_level(level: str) -> str:
    """Return a valid level; raises InputError for anything else."""
    _one_of("level", level, REPRODUCIBILITY_LEVELS)
    return level


def _one_of(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line without the usage, and that accepts no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise InputError, which `main` prints."""
        raise InputError(f"{message}; see '{self.prog} --help'")


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that determine the recipe."""
    parser.add_argument("script", type=Path, nargs="?", help="the training script or notebook")
    parser.add_argument("-m", dest="module", metavar="MODULE", help="start a module instead, as python -m does")
    parser.add_argument(
        "--code",
        type=Path,
        metavar="DIR",
        help="the folder of the code (default: the nearest folder from the script up that holds pyproject.toml,"
        " samebits.toml or .git; else the script's own)",
    )
    parser.add_argument(
        "--workdir", type=Path, metavar="DIR", help="the folder of the code in which it runs (default: the script's)"
    )
    parser.add_argument(
        "--pythonpath",
        type=Path,
        action="append",
        metavar="DIR",
        help="a folder of the code to import from (default: that of an editable installation, such as src); repeatable",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="the data folder, $SAMEBITS_DATA in the script")
    parser.add_argument("--seed", type=int, metavar="N", help="seeds Python, NumPy, TensorFlow and Keras (default: 0)")
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="size of TensorFlow's thread pools; it changes bits (default: 2; with --profile portable 1, 2 or 4,"
        " default 1)",
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="native (default): same bits on the same class of machine; portable: on every x86-64-v3 CPU, for"
        " proven operations; slower",
    )
    parser.add_argument(
        "--shuffle",
        metavar="HOW",
        help="order of arrays in fit(shuffle=True): keras (default): the same in every epoch; per-epoch: a new one",
    )
    parser.add_argument(
        "--env",
        action="append",
        metavar="NAME[=VALUE]",
        help="a variable that the script sees; its value is recorded, so never a secret; repeatable",
    )
    parser.add_argument(
        "--exclude", action="append", metavar="GLOB", help="files in the code's folder that are not code; repeatable"
    )
    parser.add_argument(
        "--ignore-output",
        action="append",
        metavar="GLOB",
        dest="ignore_outputs",
        help="output files to leave out of the result, such as logs with times; repeatable",
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every run has, with or without a launcher."""
    add_recipe_options(parser)
    add_workers(parser)
    parser.add_argument(
        "--trace",
        metavar="LEVEL",
        help="detail of the ledger: epoch (default), step, or tensor (every gradient and layer output; slower)",
    )
    parser.add_argument(
        "--keep",
        metavar="WHICH",
        help="checkpoints to keep: last (default), all, every:N, or none (writes none)",
    )
    parser.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="N",
        help="also write a checkpoint every N steps within an epoch, not only after each epoch",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        default=None,
        help="fail at once when the script draws unseeded randomness, or reads what is not pinned",
    )
    add_level_option(parser, "bitwise (default), metrics or documented")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="the folder of all runs (default: runs/)")


def add_level_option(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--level` with its help, and its former name `--goal`, which works but is not shown."""
    names = parser.add_mutually_exclusive_group()
    names.add_argument("--level", metavar="LEVEL", help=text)
    names.add_argument("--goal", dest="level", help=argparse.SUPPRESS)


def split_arguments(argv: Sequence[str]) -> tuple[list[str], tuple[str, ...] | None]:
    """Split a command line at its first `--` into our arguments and the script's (None if there is no `--`)."""
    words = list(argv)
    if "--" not in words:
        return words, None
    # Only the first `--` is ours; the script may have its own.
    at = words.index("--")
    return words[:at], tuple(words[at + 1 :])


def make_config(
    options: Mapping[str, Any], caller: Mapping[str, str] = os.environ, *, fetched: bool = True
) -> RunConfig:
    """Merge options over `samebits.toml` over the defaults; an option of None counts as not given.

    A declared variable without a value takes that of `caller`. Unless it is about to be `fetched`, every file that
    `samebits.toml` declares must be in the lock of the inputs.
    """
    script, module = _started(options)
    root = _code_root(script, options.get("code"), options.get("workdir"))
    known = {item.name for item in fields(RunConfig)} | set(_OF_LAYOUT)
    # Later sources win.
    project = require_inside(read_config(root / CONFIG_NAME), root, options)
    merged = user_defaults(options) | project
    declared = (*merged.get("env", ()), *(options.get("env") or ()))
    merged |= {name: value for name, value in options.items() if name in known and value is not None}
    for name in _LISTS:
        merged[name] = tuple(merged.get(name, ()))
    merged["ignore_outputs"] = (*KNOWN_LOGS, *merged["ignore_outputs"])
    merged["env"] = declared_env.resolve(declared, caller)
    if "trace" in merged:
        merged["trace"] = Trace(level=merged["trace"])
    folders = {name: merged.pop(name, None) for name in _OF_LAYOUT}
    if script is not None:
        layout = script_layout(script, root, **folders)
    else:
        layout = module_layout(str(module), root, **folders)
    script = script or root / layout.entry
    merged["inputs"] = lock_of(script, root, merged.get("inputs", ()) if fetched else ())
    merged["arguments"], redacted = redact(merged["arguments"], options.get("redact") or ())
    require_absent(redacted, project.get("arguments", ()), CONFIG_NAME)
    return RunConfig(**merged | {"script": script, "layout": layout, "redacted": redacted})


def _started(options: Mapping[str, Any]) -> tuple[Path | None, str | None]:
    """The script, or the module; exactly one of them is not None."""
    script, module = options["script"], options.get("module")
    if (script is None) == (module is None):
        raise InputError("name a script, or a module with -m" + ("" if script is None else ", not both"))
    return script, module


def _code_root(script: Path | None, chosen: Path | None, workdir: Path | None) -> Path:
    """The folder of the code."""
    if chosen is None:
        return find_root(script.parent if script is not None else workdir or Path())
    if not chosen.is_dir():
        raise InputError(f"the code's folder {chosen} is not a folder; name one with --code")
    return chosen


def read_config(path: Path) -> dict[str, Any]:
    """The options in a `samebits.toml` by their RunConfig names; empty if the file does not exist.

    `inputs` are the files that it declares (PinnedFile).
    """
    return read_options(path, _options)


def _options(values: Fields, folder: Path) -> dict[str, Any]:
    kinds: dict[str, type] = {"seed": int, "threads": int, "checkpoint_every": int, "strict": bool, "workers": int}
    unlisted = (*_NOT_OPTIONS, "inputs")
    known = [item.name for item in fields(RunConfig) if item.name not in unlisted] + list(_OF_LAYOUT)
    names = {name.replace("_", "-"): name for name in known}
    found: dict[str, Any] = {}
    refuse_users_own(values.names())
    for key in sorted(values.names() - set(_ELSEWHERE)):
        if key == "inputs":
            found[key] = read_declared(values.objects(key))
            continue
        current = _OLD_KEYS.get(key, key)
        if current not in names:
            # A misspelled key must not be ignored silently.
            close = difflib.get_close_matches(key, names, n=1)
            raise RecordError(f"unknown key {key!r}; " + (f"did you mean {close[0]!r}?" if close else "remove it"))
        name = names[current]
        if name in found:
            raise RecordError("'goal' and 'level' are the same option; remove 'goal'")
        listed = name in _LISTS or name == "pythonpath"
        found[name] = values.texts(key) if listed else values.get(key, kinds.get(name, str))
        # No path or argument of a process can contain it.
        if "\0" in str(found[name]):
            raise RecordError(f"'{key}' holds a NUL character; remove it")
        # Paths in the file are relative to it, not to the working directory.
        if name in _PATHS:
            found[name] = folder / found[name]
        elif name == "pythonpath":
            found[name] = tuple(folder / path for path in found[name])
    return found
