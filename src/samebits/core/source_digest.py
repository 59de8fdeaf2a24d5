"""The digest of the runner's source and its Dockerfile, as launcher and runner both compute it."""

from collections.abc import Mapping
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.file_tree import Tree, TreeEntry


def context_source_digest(context: Path, *, compiled: bool = True) -> Digest:
    """The source digest of a build context. What Python compiled counts as an extra file, unless `compiled` is off."""
    found = ((str(path.relative_to(context)), path) for path in (context / "source").rglob("*") if path.is_file())
    files = {name: path for name, path in found if compiled or "/__pycache__/" not in name}
    return digest_of_files(files | {"Dockerfile": context / "Dockerfile"})


def digest_of_files(files: Mapping[str, Path]) -> Digest:
    """The digest of files by their names; it depends neither on the file system's order nor on times and modes."""
    entries = (
        TreeEntry(path=name, size=path.stat().st_size, digest=Digest.of_file(path))
        for name, path in sorted(files.items())
    )
    return Tree(entries=tuple(entries)).digest
