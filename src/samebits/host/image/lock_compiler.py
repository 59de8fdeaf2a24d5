"""`samebits lock`: compile the requirements of a project into a lock, with pip-tools.

The requirements are resolved together with the pins of samebits's own lock. Those are fixed, unless the project names
one of these packages in another version: then its choice wins, and samebits's pins are preferences only.
"""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from samebits.core.errors import InputError, SamebitsError, ToolError, shorten
from samebits.core.jsonio import write_atomically
from samebits.host.console import elapsed_progress
from samebits.host.image import lock_conflict
from samebits.host.image.build_context import CPU, context_file
from samebits.host.image.built_wheels import FOLDER, as_pin, build_wheel, pin_built
from samebits.host.image.lockfile import Pin, read_lock, read_text
from samebits.host.image.project_lock import mark
from samebits.host.image.requirements import Requirements
from samebits.host.interpreters import Interpreter, this_interpreter
from samebits.host.subprocesses import run_tool

_OURS = ("tensorflow-cpu", "keras", "numpy", "nvidia-ml-py", "xxhash")
"""What a training needs; all other pins of samebits's lock follow from these."""

_TENSORFLOW = {"tensorflow", "tensorflow-cpu", "tensorflow-intel"}
_MOST_TRIED = 2
"""Packages that are tried in other versions after a contradiction; each attempt asks the indexes again."""

_BASE_FILE, _PROJECT_FILE, _LOCK_FILE = "samebits.in", "project.in", "requirements.lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Upgrades:
    """Which pins of the present lock are not kept: all of them, or those of some packages."""

    everything: bool = False
    packages: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """The options of pip-compile."""
        named = (part for name in self.packages for part in ("--upgrade-package", name))
        return (*(("--upgrade",) if self.everything else ()), *named)


def compile_lock(
    requirements: Requirements, target: Path, upgrades: Upgrades, interpreter: Interpreter | None = None
) -> tuple[Pin, ...]:
    """Write the lock of a project for a Python; returns its pins. Raises InputError where no versions agree."""
    own = read_lock(context_file(CPU.lock))
    interpreter = interpreter or this_interpreter()
    heading = mark(requirements, interpreter.minor)
    requirements = _on_cpu(_from_wheels(requirements, target))
    compiler = _Compiler(interpreter=interpreter, own=own, target=target, upgrades=upgrades)
    with elapsed_progress(f"locking {requirements.source}"):
        try:
            text = _resolve(requirements, compiler)
        except ToolError as error:
            raise _explained(error, requirements, compiler) from error
    write_atomically(target, (heading + pin_built(text, target)).encode())
    return read_lock(target)


def build_wheels(
    names: Iterable[str], requirements: Requirements, target: Path, interpreter: Interpreter | None = None
) -> None:
    """Build the wheels of packages that exist as source only, and keep them beside the lock."""
    listed = {canonicalize_name(item.name): item for item in requirements.listed}
    for name in names:
        build_wheel(listed.get(canonicalize_name(name)) or Requirement(name), target, interpreter or this_interpreter())


def _from_wheels(requirements: Requirements, lock: Path) -> Requirements:
    """With the versions of kept wheels for repositories."""
    return replace(requirements, listed=tuple(as_pin(item, lock) if item.url else item for item in requirements.listed))


def _on_cpu(requirements: Requirements) -> Requirements:
    """With `tensorflow-cpu` for `tensorflow`: the same library without the code for GPUs, which is half its size."""
    listed = tuple(
        Requirement(str(item).replace(item.name, "tensorflow-cpu", 1)) if item.name in _TENSORFLOW else item
        for item in requirements.listed
    )
    return replace(requirements, listed=listed)


def _resolve(requirements: Requirements, compiler: "_Compiler") -> str:
    base = _base(requirements, compiler.own)
    text = compiler.compile(base, requirements)
    names = {pin.name for pin in read_lock(text)}
    if "tensorflow" not in names or "tensorflow-cpu" not in names:
        return text
    # A package asks for `tensorflow` by this name: it takes the place of `tensorflow-cpu`, which has the same files.
    listed = tuple(item for item in requirements.listed if item.name != "tensorflow-cpu")
    base = [item.replace("tensorflow-cpu", "tensorflow") for item in base]
    return compiler.compile(base, replace(requirements, listed=listed))


def _base(requirements: Requirements, own: Sequence[Pin]) -> list[str]:
    """What samebits adds to the requirements: all of its pins, or the names of what a training needs."""
    if not overridden(requirements, own):
        return [str(pin) for pin in own]
    return [name for name in _OURS if name not in requirements.names]


def overridden(requirements: Requirements, own: Iterable[Pin]) -> list[str]:
    """The project's requirements that samebits's pins do not meet."""
    pins = {pin.name: pin.version for pin in own}
    named = ((canonicalize_name(item.name), item) for item in requirements.listed)
    return [str(item) for name, item in named if name in pins and not item.specifier.contains(pins[name])]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Compiler:
    """Pip-tools, run by the Python that the lock is for; `own` are the pins of samebits's own lock."""

    interpreter: Interpreter
    own: Sequence[Pin]
    target: Path
    upgrades: Upgrades

    def compile(self, base: Sequence[str], requirements: Requirements) -> str:
        """The text of a lock of these requirements and those that samebits adds."""
        # Pip-tools holds on to versions that it should only prefer: without them, others may agree.
        *first, last = self._preferences(requirements)
        for preferred in first:
            try:
                return self._compile(base, requirements, preferred)
            except ToolError as error:
                if not lock_conflict.is_conflict(error.output):
                    raise
        return self._compile(base, requirements, last)

    def _preferences(self, requirements: Requirements) -> list[str]:
        """The pins to prefer: the present lock's or samebits's, then its TensorFlow and Keras, then none."""
        present = read_text(self.target) if self.target.exists() and not self.upgrades.everything else ""
        if not overridden(requirements, self.own):
            # Samebits's pins are requirements here.
            return [present, ""] if present else [""]
        main = "".join(f"{pin}\n" for pin in self.own if pin.name in ("tensorflow-cpu", "keras"))
        return [present or "".join(f"{pin}\n" for pin in self.own), main, ""]

    def _compile(self, base: Sequence[str], requirements: Requirements, preferred: str) -> str:
        with tempfile.TemporaryDirectory(prefix="samebits-lock-") as name:
            folder = Path(name)
            (folder / _BASE_FILE).write_text("".join(f"{item}\n" for item in base))
            (folder / _PROJECT_FILE).write_text("".join(f"{item}\n" for item in requirements.listed))
            # The pins in the output file are preferences.
            (folder / _LOCK_FILE).write_text(preferred)
            variables = {**_VARIABLES, **self.interpreter.tools}
            command = _command(self.interpreter, self.upgrades, self.target.parent / FOLDER)
            run_tool(command, what="locking", folder=folder, variables=variables)
            text = (folder / _LOCK_FILE).read_text()
        return text.replace(f"-r {_PROJECT_FILE}", f"-r {requirements.source.name}")


def _explained(error: ToolError, requirements: Requirements, compiler: _Compiler) -> SamebitsError:
    """Pip's failure in one line, with what would agree."""
    own, name = compiler.own, requirements.source.name
    if not lock_conflict.is_conflict(error.output):
        missing = lock_conflict.what_is_missing(error.output, compiler.interpreter)
        return error if missing is None else InputError(f"cannot lock {requirements.source}: {missing}")
    wishes = lock_conflict.all_wishes(error.output)
    ours = [] if overridden(requirements, own) else lock_conflict.contradictions(wishes, own)
    pins = " or ".join(str(pin) for pin in _agreeing(wishes, requirements, compiler))
    agreeing = f"{pins} would agree" if pins else ""
    if ours:
        or_else = f"require {ours[0].pin.name} in {name}, to have another than samebits's"
        return InputError(f"{ours[0]}; {f'{agreeing}, or ' if agreeing else ''}{or_else}")
    described = shorten([str(wish) for wish in wishes], 4)
    change = f"change {requirements.source}"
    return InputError(f"no versions agree: {described}; {f'{agreeing}; ' if agreeing else ''}{change}")


def _agreeing(wishes: Iterable[lock_conflict.Wish], requirements: Requirements, compiler: _Compiler) -> Iterator[Pin]:
    """The versions of the project's packages in a contradiction that agree with everything else."""
    named = (name for wish in wishes for name in (wish.name, wish.by and wish.by[0]))
    for name in [name for name in dict.fromkeys(named) if name in requirements.names][:_MOST_TRIED]:
        free = (item for item in requirements.listed if canonicalize_name(item.name) != name)
        relaxed = replace(requirements, listed=(*free, Requirement(name)))
        with contextlib.suppress(ToolError):
            yield next(pin for pin in read_lock(_resolve(relaxed, compiler)) if pin.name == name)


_VARIABLES = {"CUSTOM_COMPILE_COMMAND": "samebits lock", "PIP_NO_INPUT": "1", "PYTHONWARNINGS": "ignore"}


def _command(interpreter: Interpreter, upgrades: Upgrades, wheels: Path) -> list[str]:
    return [
        *(str(interpreter.path), "-m", "piptools", "compile", "--quiet", "--no-config", "--generate-hashes"),
        *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--strip-extras", "--allow-unsafe"),
        "--no-emit-options",
        # Wheels alone: the metadata of a source distribution is the output of its own code.
        *("--pip-args", "--only-binary :all: --retries 1 --timeout 15"),
        *(("--find-links", str(wheels.absolute())) if wheels.is_dir() else ()),
        *(*upgrades.options, "--output-file", _LOCK_FILE, _BASE_FILE, _PROJECT_FILE),
    ]
