"""The only module that talks to Apptainer: it unpacks images, and runs containers that are as closed as Docker's.

Apptainer has no daemon and no root. Its containers share the user's limits on memory and processes: those of the job.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from samebits.core.environment import EngineInfo
from samebits.core.errors import EngineError, ImageError, NoEngineError, ToolError
from samebits.host.container_request import ContainerRequest, check_names
from samebits.host.subprocesses import run_tool

PROGRAM = "apptainer"
NAME = "Apptainer"

_CLOSED = (
    *("--containall", "--cleanenv", "--no-home", "--no-privs"),
    # The site's own mounts, such as /scratch, are none of the script's business.
    *("--no-mount", "home,tmp,cwd,hostfs,bind-paths"),
    # Else a shell would execute what stands in a variable.
    "--no-eval",
)
_OFFLINE = ("--net", "--network", "none")
_INTO = "APPTAINERENV_"
"""How a variable of Apptainer begins that the container gets without this prefix."""

_LOADER = "LD_LIBRARY_PATH"
"""Apptainer sets it in every container, for a site's drivers; it is part of no recipe."""

_PROBE = """\
cat /proc/self/status /proc/net/dev
for folder in / /etc /usr /opt; do if [ -w "$folder" ]; then echo "Writable: $folder"; fi; done
"""
_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_KEPT = ("HOME", "LANG", "PATH", "USER", "XDG_RUNTIME_DIR")
_FOR_A_PULL = (
    *("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "http_proxy", "https_proxy", "no_proxy"),
    *("APPTAINER_DOCKER_PASSWORD", "APPTAINER_DOCKER_USERNAME", "SSL_CERT_DIR", "SSL_CERT_FILE"),
)
_START_SECONDS = 120.0


def is_installed() -> bool:
    """Whether Apptainer's program is on the path."""
    return shutil.which(PROGRAM) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """An unpacked image: its root file system, and what its configuration starts there."""

    rootfs: Path
    entrypoint: tuple[str, ...]
    folder: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A call of Apptainer, with every variable that it gets."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


class Apptainer:
    """The program of this machine."""

    def __init__(self) -> None:
        """Raises NoEngineError if it is not installed, or does not start."""
        if not is_installed():
            raise NoEngineError("Apptainer is not installed; install it, or choose another --runtime", configured=False)
        try:
            self._version = run_tool([PROGRAM, "--version"], what="asking Apptainer for its version", limit=60).split()
        except ToolError as error:
            raise NoEngineError(f"Apptainer does not start: {error}", configured=True) from error

    def describe(self) -> EngineInfo:
        """Name and version."""
        return EngineInfo(name=NAME, version=self._version[-1] if self._version else None)

    def pull(self, reference: str, draft: Path) -> Path:
        """Pull an image that is named by digest; returns a folder with its blobs. Raises EngineError."""
        try:
            self._build(f"docker://{reference}", draft / "pulled", draft, _FOR_A_PULL)
        except ToolError as error:
            raise EngineError(f"Apptainer cannot pull {reference}: {error}") from error
        shutil.rmtree(draft / "pulled")
        return draft / "cache" / "blob"

    def unpack(self, layout: Path, target: Path) -> None:
        """Make the root file system of the only image in an OCI layout; raises ImageError."""
        try:
            # Relative, as a colon in a path would begin a tag.
            self._build(f"oci:{layout.name}", target, layout.parent)
        except ToolError as error:
            raise ImageError(f"Apptainer cannot unpack the image: {error}") from error

    def _build(self, source: str, target: Path, draft: Path, more: tuple[str, ...] = ()) -> None:
        own = {"APPTAINER_CACHEDIR": str(draft), "APPTAINER_TMPDIR": str(draft)}
        # As a sandbox: a SIF file has another digest each time, and needs a loop device or FUSE.
        words = [PROGRAM, "--silent", "build", "--sandbox", "--fix-perms", os.path.relpath(target, draft), source]
        run_tool(words, what="unpacking an image", folder=draft, variables=_only(_environment(more) | own))

    def check_isolation(self, image: Unpacked) -> None:
        """Start a container and read back how closed it is; raises EngineError where it is too open."""
        request = ContainerRequest(
            image="", command=("-c", _PROBE), entrypoint=("/bin/sh",), environment={}, mounts=(), user=""
        )
        with tempfile.TemporaryDirectory(prefix="samebits-") as scratch:
            call = plan_call(request, image, Path(scratch))
            try:
                output = run_tool(
                    call.command,
                    what="starting a container with Apptainer",
                    limit=_START_SECONDS,
                    variables=_only(call.environment),
                )
            except ToolError as error:
                raise EngineError(f"{error}; ask the site for user namespaces, or choose another --runtime") from error
        if problems := open_ways(output):
            raise EngineError(
                f"Apptainer does not close its containers here: {', '.join(problems)}; choose another --runtime"
            )


def open_ways(output: str) -> list[str]:
    """What a container can do that it must not, by what the probe in it printed."""
    lines = output.splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    # A network's name, and its sixteen numbers.
    networks = [line.partition(":")[0].strip() for line in lines if len(line.replace(":", " ").split()) == 17]
    found = [f"it has {name} {status.get(name)}" for name in _CAPABILITIES if set(status.get(name, "?")) != {"0"}]
    found += [] if status.get("NoNewPrivs") == "1" else ["programs may gain privileges"]
    found += [f"it has the network {name}" for name in networks if name != "lo"]
    found += [] if networks else ["it shows no network at all"]
    return found + [f"it may write to {line.partition(': ')[2]}" for line in lines if line.startswith("Writable: ")]


def plan_call(request: ContainerRequest, image: Unpacked, scratch: Path) -> Call:
    """The call of Apptainer for a container; `scratch` becomes its /tmp. Raises InputError for names of folders.

    Nothing of this process's environment gets in: a site may set variables that mount folders.
    """
    check_names(request, NAME)
    mounts = list(request.mounts)
    if "/tmp" not in (target for _, target, _ in mounts):  # noqa: S108  in the container
        # Apptainer's own has the size of a site's setting, often 64 MiB.
        mounts.insert(0, (scratch, "/tmp", False))  # noqa: S108
    unset = (_LOADER, *(name for name, value in request.environment.items() if value is None))
    return Call(
        command=(
            *(PROGRAM, "--silent", "exec", *_CLOSED),
            # Root would have the rights of root in a container without its own users.
            *(("--userns",) if _is_root() else ()),
            *(_OFFLINE if request.network == "none" else ()),
            # Without Apptainer's own first process the runner is it, as in Docker.
            *(("--no-init",) if request.watches else ()),
            *("--pwd", image.folder),
            *(word for mount in mounts for word in ("--mount", _mount(*mount))),
            str(image.rootfs),
            *("/usr/bin/env", *(word for name in unset for word in ("-u", name))),
            *(request.entrypoint or image.entrypoint),
            *request.command,
        ),
        # Not as words of the command, which every user of the machine can read.
        environment=_environment()
        | {f"{_INTO}{name}": value for name, value in request.environment.items() if value is not None},
    )


def _mount(source: Path, target: str, read_only: bool) -> str:  # noqa: FBT001  as in a request
    # A colon or a backslash in a name has no meaning here.
    return f"type=bind,src={source},dst={target}" + (",ro" if read_only else "")


def _is_root() -> bool:
    return os.geteuid() == 0


def _environment(more: tuple[str, ...] = ()) -> dict[str, str]:
    return {name: os.environ[name] for name in (*_KEPT, *more) if name in os.environ}


def _only(environment: Mapping[str, str]) -> dict[str, str | None]:
    """All variables of this process removed, but these."""
    return {**dict.fromkeys(os.environ), **environment}
