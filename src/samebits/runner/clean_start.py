"""The image's entrypoint: starts the runner with an environment of which every variable is known.

Run as `python -I -S clean_start.py WORDS`, so that no variable and no package acts on this program itself. Variables
that change how programs are loaded or how Python works are refused. Those that a library may read pass, and the runner
judges them. All others are withheld; the runner gets them through a file in memory, for a script that declares them.
"""

import os
import sys

try:
    import signal
except KeyboardInterrupt:  # it takes a while, and nothing has begun
    os._exit(130)

GIVEN = "SAMEBITS_GIVEN"
"""The variable with the number of the file in memory."""

_FIXED = {
    "HOME": "/tmp",  # noqa: S108  inside the container
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}
"""Set in every start, beside PATH and PYTHONPATH."""

_PASSED = (
    *("LC_ALL", "PYTHONHASHSEED", "PYTHONNOUSERSITE", "SAMEBITS_DATA", "SAMEBITS_INPUTS", "SAMEBITS_REDACTED"),
    "TZ",
)
_PASSED_PREFIXES = (
    *("BLIS_", "CUBLAS_", "CUDA_", "CUDNN_", "DNNL_", "KERAS_", "MKL_", "NPY_", "NVIDIA_", "OMP_", "ONEDNN_"),
    *("OPENBLAS_", "TF_", "XLA_"),
)
_OF_A_LAUNCHER = "PYTHONMALLOC"  # in a trial that changes the memory layout
_NETWORK = (
    *("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "http_proxy", "https_proxy", "no_proxy"),
    *("REQUESTS_CA_BUNDLE", "SAMEBITS_FETCH", "SSL_CERT_FILE"),
)
_LOADER = ("LD_", "GLIBC_", "GCONV_", "LOCPATH", "MALLOC_")


def main() -> None:
    """Replace this process by the runner; never returns."""
    given, words = dict(os.environ), sys.argv[1:]
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    known = {**_FIXED, "PATH": f"{os.path.dirname(sys.executable)}:/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": source}
    launched = words[:1] == ["--run"]
    if launched:
        # As process 1 it would miss what comes before the runner is there to pass it on.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    # What `samebits fetch` starts may use the network.
    network = _NETWORK if launched and "SAMEBITS_FETCH" in given else ()
    for name in sorted(given):
        if given[name] and given.get(name) != known.get(name) and _changes_programs(name, launched=launched):
            sys.stderr.write(
                f"samebits: the environment sets {name}={given[name]}, which changes how programs run and is part of no"
                " recipe; remove it\n"
            )
            sys.exit(2)
    passed = {name: value for name, value in given.items() if name in network or _passes(name, launched=launched)}
    withheld = {name: value for name, value in given.items() if name not in passed and name not in known}
    # A launched run has its declared variables in its record.
    handed_over = {} if words[:1] in (["--run"], ["fingerprint"]) else {GIVEN: str(_in_memory(withheld))}
    command = [sys.executable, "-P", "-m", "samebits.runner", *words]
    os.execve(command[0], command, known | passed | handed_over)  # noqa: S606  there is no shell on purpose


def _changes_programs(name: str, *, launched: bool) -> bool:
    """Whether the loader, the C library or the interpreter reads a variable."""
    if launched and name == _OF_A_LAUNCHER:
        return False
    # An image of Python has names such as PYTHON_VERSION, which the interpreter does not read.
    of_python = name.startswith("PYTHON") and not name.startswith("PYTHON_")
    return name.startswith(_LOADER) or (of_python and name not in _PASSED)


def _passes(name: str, *, launched: bool) -> bool:
    return name in _PASSED or name.startswith(_PASSED_PREFIXES) or (launched and name == _OF_A_LAUNCHER)


def _in_memory(variables: dict[str, str]) -> int:
    """A file that only this process and the runner that it becomes can read."""
    file = os.memfd_create("variables", 0)
    os.write(file, b"\0".join(os.fsencode(f"{name}={value}") for name, value in sorted(variables.items())))
    os.lseek(file, 0, os.SEEK_SET)
    return file


if __name__ == "__main__":
    main()
