"""Put the parts of `pack` together: `python -m tools.gpu.join PARTS --into FOLDER [--background]`.

It needs nothing but Python's standard library. Each part is checked and unpacked when it arrives; a call without all of
them ends with status 3 and the number that is missing, and a later one goes on. `--background` returns at once and lets
a process of its own session do the work, so that the next part can travel. Once all parts are there, FOLDER/venv is an
environment with the locked packages, and the last line says `complete`.
"""

import argparse
import fcntl
import hashlib
import json
import lzma
import os
import subprocess
import sys
import tarfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

FORMAT, VERSION = "samebits-gpu-kit", "1."
COMPLETE, WRONG, MISSING = 0, 2, 3


class KitError(Exception):
    """What is wrong with the kit, and what to do."""


def main(argv: list[str] | None = None) -> int:
    """Unpack what is there; 0 if that is everything, 3 if parts are missing, 2 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", type=Path, help="the folder with manifest.json and the parts that have arrived")
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--python", default=sys.executable, help="the Python of the environment")
    parser.add_argument("--background", action="store_true")
    options = parser.parse_args(argv)
    if options.background:
        return _in_background(options)
    try:
        return join(options.parts, options.into, options.python)
    except (KitError, OSError) as error:
        print(f"join: {error}", file=sys.stderr)
        return WRONG


def _in_background(options: argparse.Namespace) -> int:
    options.into.mkdir(parents=True, exist_ok=True)
    # The parts may be replaced by the next ones once this call has returned, so they are taken along by their name.
    command = [sys.executable, str(Path(__file__).resolve()), str(kept(options.parts, options.into)), "--into"]
    command += [str(options.into), "--python", options.python]
    with (options.into / "join.log").open("ab") as log, open(os.devnull, "rb") as nothing:
        streams = [(os.POSIX_SPAWN_DUP2, nothing.fileno(), 0)]
        streams += [(os.POSIX_SPAWN_DUP2, log.fileno(), number) for number in (1, 2)]
        # A session of its own: the process outlives the command that carried the part.
        os.posix_spawn(command[0], command, os.environ, file_actions=streams, setsid=True)
    return COMPLETE


def kept(parts: Path, into: Path) -> Path:
    """A folder of `into` with hard links to the parts, or copies where links cannot be made."""
    target = into / "arrived"
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(parts.iterdir()):
        copy = target / path.name
        if path.suffix in {".part", ".json"} and not copy.exists():
            draft = target / f".{path.name}.{os.getpid()}"
            try:
                os.link(path, draft)
            except OSError:
                draft.write_bytes(path.read_bytes())
            draft.rename(copy)
    return target


def join(parts: Path, into: Path, python: str) -> int:
    """Unpack the parts that are there, and make the environment once all are; see `main` for the result."""
    manifest = read_manifest(parts / "manifest.json")
    into.mkdir(parents=True, exist_ok=True)
    # Parts may arrive while an earlier call still unpacks; one call at a time.
    with (into / "join.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (into / "complete").exists():
            print("complete")
            return COMPLETE
        waiting = [part for part in manifest["parts"] if not _is_done(into, part)]
        with ProcessPoolExecutor() as pool:
            list(
                pool.map(
                    _unpack, [part for part in waiting if (parts / part["name"]).exists()], *_constant(parts, into)
                )
            )
        missing = [part["name"] for part in manifest["parts"] if not _is_done(into, part)]
        if missing:
            print(f"{len(missing)} of {len(manifest['parts'])} parts are missing: {' '.join(missing)}")
            return MISSING
        make_environment(into, python, manifest)
    print("complete")
    return COMPLETE


def _constant(parts: Path, into: Path) -> tuple[Any, Any]:
    return iter(lambda: parts, None), iter(lambda: into, None)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest; raises KitError."""
    try:
        manifest = json.loads(path.read_text())
        given = manifest["format"], str(manifest["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KitError(f"{path} cannot be read: {error!r}; carry the one that `pack` wrote") from error
    if given[0] != FORMAT or not given[1].startswith(VERSION):
        raise KitError(
            f"{path} is of {given[0]} {given[1]}, not of {FORMAT} {VERSION}x; use the `join` beside its `pack`"
        )
    return dict(manifest)


def _done_mark(into: Path, part: dict[str, Any]) -> Path:
    return into / "done" / str(part["sha256"])


def _is_done(into: Path, part: dict[str, Any]) -> bool:
    return _done_mark(into, part).exists()


def _unpack(part: dict[str, Any], parts: Path, into: Path) -> None:
    """Check one part and write its chunks to their places in the archive; raises KitError."""
    path = parts / part["name"]
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != part["sha256"]:
        raise KitError(f"{path} is damaged: it has {len(content)} of {part['size']} bytes, or others; carry it again")
    at = 0
    descriptor = os.open(into / "site.tar", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for chunk in part["chunks"]:
            data = lzma.decompress(content[at : at + chunk["packed"]])
            if hashlib.sha256(data).hexdigest() != chunk["sha256"]:
                raise KitError(f"{path} unpacks to other bytes than were packed; check this machine's memory and disk")
            os.pwrite(descriptor, data, chunk["at"])
            at += chunk["packed"]
        # The mark must not outlive the data that it stands for.
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _done_mark(into, part).parent.mkdir(exist_ok=True)
    _done_mark(into, part).touch()


def make_environment(into: Path, python: str, manifest: dict[str, Any]) -> None:
    """A virtual environment with the packages of the archive; raises KitError for another version of Python."""
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    found = subprocess.run([python, "-c", asked], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    if found != manifest["python"]:
        raise KitError(
            f"{python} is Python {found}, and the parts are for {manifest['python']}; name that with --python"
        )
    subprocess.run([python, "-m", "venv", "--without-pip", "--clear", str(into / "venv")], check=True)
    site = into / "venv" / "lib" / f"python{found}" / "site-packages"
    with tarfile.open(into / "site.tar") as archive:
        # `data` refuses paths that lead out of the folder; Python 3.11 has it since 3.11.4.
        archive.extractall(site, filter="data")
    # Compiled once here, as the trainings may not write into the environment. Some packages hold templates.
    compiled = [str(into / "venv" / "bin" / "python"), "-m", "compileall", "-q", "-j", "0", str(site)]
    subprocess.run(compiled, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    (into / "site.tar").unlink()
    (into / "complete").write_text(json.dumps({"site": str(site), "lock": manifest["lock"]}))


if __name__ == "__main__":
    sys.exit(main())
