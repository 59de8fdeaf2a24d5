"""From a configuration to a run's folder: hash code and data, make the recipe, publish the folder as `running`."""

import fnmatch
import os
import re
import shutil
import stat
import sys
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from samebits.core.checkpoint_store import CheckpointStore, Position
from samebits.core.cpu_info import instruction_set
from samebits.core.determinism_profile import PORTABLE_INSTRUCTIONS
from samebits.core.environment import Environment
from samebits.core.errors import InputError, RecordError
from samebits.core.file_tree import Progress, Tree, TreeFilter, hash_tree, list_tree
from samebits.core.jsonio import storage_error
from samebits.core.liveness import Host
from samebits.core.origin import Origin, ResumedRun, VerifiedRun
from samebits.core.recipe import Code, Device, ImageIdentity, Recipe
from samebits.core.record import RUNNING, Outcome, Record, write_record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import MARKER, RunDir, claim, prepare_runs

# A larger folder is almost certainly data or a home folder that was named by mistake.
_MAX_CODE_FILES = 5_000
_MAX_CODE_BYTES = 50 << 20
_NOT_CODE = ("__pycache__", "*.pyc")
_CODE_TIME = 1_767_225_600  # 2026-01-01T00:00:00Z, as of all files in an image


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSetup:
    """What the launcher knows about a run beyond its configuration."""

    image: ImageIdentity
    device: Device = field(default_factory=Device)
    environment: Environment = field(default_factory=Environment)
    python: tuple[int, int] = sys.version_info[:2]
    """The version of Python that will run the script. This process cannot check the syntax of a newer one."""
    verifies: VerifiedRun | None = None
    resumes: "Resumption | None" = None
    record_version: str | None = None
    """The version that the runner writes, if it is a run's own of an older samebits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumption:
    """The run to resume, and the parts to copy from its folder.

    The new run starts with the first `size` bytes of `ledger` and with the checkpoints of `store` at `positions`.
    """

    run: ResumedRun
    ledger: Path
    size: int
    store: CheckpointStore
    positions: tuple[Position, ...] = ()

    def copy_into(self, folder: RunDir) -> None:
        """Copy ledger and checkpoints into the new run's folder; raises RecordError if the ledger got shorter."""
        with self.ledger.open("rb") as source, folder.ledger.open("wb") as target:
            left = self.size
            # Exactly the bytes that were checked, even if the file has grown since.
            while left and (part := source.read(min(left, 1 << 20))):
                target.write(part)
                left -= len(part)
        if left:
            raise RecordError(
                f"{self.ledger} became shorter while it was copied; stop what else writes to it, and resume again"
            )
        if self.positions:
            self.store.share(self.positions, folder.checkpoints)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """A run whose inputs are checked and hashed. It has no folder yet."""

    spec: RunConfig
    setup: RunSetup
    started: datetime
    code: Tree
    data: Tree | None
    recipe: Recipe

    @property
    def name(self) -> str:
        """The name of the run: UTC time, script, and the start of the recipe digest."""
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", self.spec.script.stem)[:60]
        return f"{self.started:%Y%m%dT%H%M%SZ}-{stem}-{self.recipe.digest.short}"


def plan_run(spec: RunConfig, setup: RunSetup, progress: Progress | None = None) -> PlannedRun:
    """Check and hash all inputs first, so that a run does not fail later for a reason that is known now.

    Raises InputError for invalid inputs, and StorageError if the folder of runs is not writable.
    """
    check_script(spec.script, setup.python)
    check_runs(spec)
    if spec.determinism.portable:
        check_portable_cpu()
    code = hash_code(spec)
    data = None if spec.data is None else hash_data(spec.data, progress)
    return plan_hashed(spec, setup, code=code, data=data)


def plan_hashed(spec: RunConfig, setup: RunSetup, *, code: Tree, data: Tree | None) -> PlannedRun:
    """Plan a run from hashed code and data; raises StorageError if the folder of runs is not writable."""
    recipe = make_recipe(spec, setup, code, data)
    prepare_runs(spec.runs)
    return PlannedRun(spec=spec, setup=setup, started=datetime.now(UTC), code=code, data=data, recipe=recipe)


def publish(planned: PlannedRun) -> tuple[RunDir, Record]:
    """Create the run's folder with code, manifests and record. After a StorageError, no folder is left."""
    spec = planned.spec
    folder = claim(spec.runs, planned.name)
    record = Record(
        id=folder.path.name,
        level=spec.level,
        recipe=planned.recipe,
        started=planned.started.isoformat(timespec="microseconds"),
        outcome=Outcome(state=RUNNING),
        trace=spec.trace,
        retention=spec.retention,
        strict=spec.strict,
        trial=spec.trial,
        exclude=spec.exclude,
        origin=Origin(
            script=_path_text(spec.script),
            data=None if spec.data is None else _path_text(spec.data),
            verifies=planned.setup.verifies,
            resumes=None if planned.setup.resumes is None else planned.setup.resumes.run,
        ),
        environment=planned.setup.environment,
        host=Host.this(),
    )
    try:
        _fill(folder, planned, record)
    # A run must not be left half made, not even by Ctrl-C.
    except BaseException as error:
        shutil.rmtree(folder.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise storage_error(error, folder.path) from error
        raise
    return folder, record


def check_script(script: Path, python: tuple[int, int]) -> None:
    """Raise InputError unless `script` is a readable Python file. `python` is the version that will run it."""
    try:
        if not stat.S_ISREG(os.stat(script).st_mode):
            raise InputError(f"the script {script} is not a file; name a Python file")
        source = script.read_bytes()
    except FileNotFoundError:
        raise InputError(f"the script {script} does not exist; name a Python file") from None
    except OSError as error:
        raise InputError(f"cannot read the script {script}: {error.strerror}; name a Python file") from error
    try:
        with warnings.catch_warnings(action="ignore"):  # the run itself shows them
            compile(source, str(script), "exec", dont_inherit=True)
    except SyntaxError as error:
        if not error.lineno:  # NUL bytes or an unknown encoding
            raise InputError(f"the script {script} is not Python source: {error.msg}; name a Python file") from error
        # A newer Python may accept what this one rejects.
        if python <= sys.version_info[:2]:
            raise InputError(
                f"the script {script} is not valid Python: line {error.lineno}: {error.msg}; fix it and run again"
            ) from error
    except (ValueError, MemoryError, RecursionError) as error:
        reason = str(error) or "nested too deeply"
        raise InputError(f"the script {script} is not Python source: {reason}; name a Python file") from error


def check_portable_cpu() -> None:
    """Raise InputError if this CPU lacks the instructions that the portable profile uses."""
    if instruction_set() not in {PORTABLE_INSTRUCTIONS, "x86-64-v4"}:
        raise InputError(
            f"the portable profile needs a CPU with {PORTABLE_INSTRUCTIONS}, but this one has {instruction_set()};"
            " use the native profile"
        )


def check_runs(spec: RunConfig) -> None:
    """Raise InputError if the folder of runs is the code folder or lies in the data folder."""
    # Resolved, because a link could hide that the folders are the same.
    runs, code = (Path(os.path.realpath(path)) for path in (spec.runs, spec.code_folder))
    if runs == code:
        raise InputError(f"runs cannot be kept in the script's own folder {spec.runs}; name another with --runs")
    if spec.data is not None and runs.is_relative_to(os.path.realpath(spec.data)):
        raise InputError(f"runs cannot be kept in the data folder {spec.data}; name another with --runs")


def code_filter(spec: RunConfig) -> TreeFilter:
    """What to leave out of the code tree: hidden files, caches, virtual environments, data and runs."""
    folders = (spec.runs,) if spec.data is None else (spec.runs, spec.data)
    return TreeFilter(
        patterns=(*_NOT_CODE, *spec.exclude), folders=folders, markers=("pyvenv.cfg", MARKER), hidden=True
    )


def hash_code(spec: RunConfig) -> Tree:
    """The tree of the script's folder; raises InputError if it is too large to be code."""
    leave_out = code_filter(spec)
    files = list_tree(spec.code_folder, "code", leave_out)
    # Checked before hashing, which would take minutes for a folder of data.
    size = sum(item[2] for item in files)
    if len(files) > _MAX_CODE_FILES or size > _MAX_CODE_BYTES:
        raise InputError(
            f"the script's folder {spec.code_folder.absolute()} holds {len(files):,} files, {size / 2**20:.0f} MiB:"
            " too much for code; name the data with --data, or leave files out with --exclude"
        )
    tree = hash_tree(spec.code_folder, "code", leave_out=leave_out, modes=True)
    # The hidden and excluded files may include the script itself.
    if spec.script.name not in (entry.path for entry in tree.entries):
        raise InputError(f"the script {spec.script} is left out as a hidden or excluded file; rename it")
    return tree


def hash_kept_code(run: RunDir, recorded: Code | None = None) -> Tree:
    """The tree of the code in a run's folder, without the caches that Python writes.

    It is hashed by the rule of the `recorded` code, which is read from the run's record if it is not given.
    """
    recorded = recorded or run.read().recipe.code
    return hash_tree(run.code, "code", leave_out=TreeFilter(patterns=_NOT_CODE), modes=recorded.modes)


def is_cache(path: str) -> bool:
    """Whether a file is one of the caches that Python writes beside its source."""
    return any(fnmatch.fnmatchcase(part, pattern) for part in path.split("/") for pattern in _NOT_CODE)


def hash_data(folder: Path, progress: Progress | None = None) -> Tree:
    """The tree of the data folder; raises InputError if it is empty."""
    tree = hash_tree(folder, "data", progress=progress)
    if not tree.entries:
        raise InputError(f"the data folder {folder} is empty; name a folder that holds the data")
    return tree


def _path_text(path: Path) -> str:
    """An absolute path as text; bytes that are not UTF-8 become escapes."""
    return os.fsencode(path.absolute()).decode("utf-8", "backslashreplace")


def make_recipe(spec: RunConfig, setup: RunSetup, code: Tree, data: Tree | None) -> Recipe:
    """The recipe: what was requested, and what the machine and the files are."""
    return Recipe(
        image=setup.image,
        code=Code(tree=code.digest, entry=spec.script.name, arguments=spec.arguments, modes=code.modes),
        data=None if data is None else data.digest,
        seed=spec.seed,
        profile=spec.profile,
        threads=spec.determinism.threads,
        instruction_set=PORTABLE_INSTRUCTIONS if spec.determinism.portable else instruction_set(),
        device=setup.device,
        ignore_outputs=spec.ignore_outputs,
        shuffle=spec.shuffle,
        env=spec.declared,
    )


def _fill(folder: RunDir, planned: PlannedRun, record: Record) -> None:
    """Write the folder's files. The record comes last, because it makes the folder a run."""
    _copy_tree(planned.spec.code_folder, folder.code, planned.code)
    planned.code.write(folder.code_manifest)
    if planned.data is not None:
        planned.data.write(folder.data_manifest)
    folder.create_inside()
    if planned.setup.resumes is not None:
        planned.setup.resumes.copy_into(folder)
    write_record(folder.record, record, planned.setup.record_version)


def _copy_tree(source: Path, target: Path, tree: Tree) -> None:
    target.mkdir()
    for entry in tree.entries:
        path = target / entry.path
        if entry.digest is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / entry.path, path)
        # By the source where the tree holds no modes, as earlier versions copied them.
        executable = entry.executable if tree.modes else os.access(source / entry.path, os.X_OK)
        path.chmod(0o755 if executable else 0o644)
    _fix_times(target)


def _fix_times(target: Path) -> None:
    """Give all copied files and folders one time: a script must not find out when they were written."""
    for folder, _, files in os.walk(target, topdown=False):
        for path in (*(f"{folder}/{name}" for name in files), folder):
            os.utime(path, (_CODE_TIME, _CODE_TIME))
