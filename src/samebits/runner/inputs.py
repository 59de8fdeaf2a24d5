"""The inputs of one run, checked before and after the script: code, data, device, and the image's own recipe."""

import os
import shutil
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import samebits
from samebits.core.code_tree import hash_kept_code
from samebits.core.errors import InputError, SettingError, shorten
from samebits.core.file_tree import Tree, differing_paths, hash_tree, read_manifest
from samebits.core.jsonio import differing_names, storage_error
from samebits.core.known_digests import DATA_CHANGED
from samebits.core.recipe import Recipe
from samebits.core.run_dir import RunDir
from samebits.runner.process.console import plain_progress


class InputMarks:
    """What code and data looked like when the script began: a change shows there that was undone before the end."""

    def __init__(self, folder: RunDir, data: Path | None) -> None:
        self._folders = {"recorded code": folder.code} | ({} if data is None else {"data": data})
        self._marks = {what: _marks(path) for what, path in self._folders.items()}

    def check(self) -> None:
        """Raise InputError where a file was changed and changed back, or replaced by an equal one."""
        for what, path in self._folders.items():
            if changed := differing_names(self._marks[what], _marks(path)):
                raise InputError(
                    f"the {what} changed during the run, and was changed back: files in {shorten(changed, 3)}; the"
                    " script may have read something else; run again"
                )


def _marks(root: Path) -> dict[str, str]:
    """A digest for every folder: of the names in it, with sizes, times and inodes. A link in it counts as a link."""
    found, waiting = {}, [""]
    while waiting:
        prefix = waiting.pop()
        lines = []
        with suppress(OSError), os.scandir(root / prefix) as listing:
            for child in listing:
                at = child.stat(follow_symlinks=False)
                # The time of the last change (ctime) cannot be set back.
                lines.append(f"{child.name}\0{at.st_ino}\0{at.st_size}\0{at.st_mtime_ns}\0{at.st_ctime_ns}\n")
                if child.is_dir(follow_symlinks=False):
                    waiting.append(f"{prefix}{child.name}/")
        found[prefix or "./"] = sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()
    return found


def check_code_unchanged(folder: RunDir, recipe: Recipe, meaning: str) -> None:
    """Hash the run's code again. Raises InputError, which begins with `meaning`, where it differs from the recipe."""
    found = hash_kept_code(folder, recipe.code)
    if found.digest != recipe.code.tree:
        raise _changed(meaning, read_manifest(folder.code_manifest), found)


def check_unchanged(folder: RunDir, recipe: Recipe, data: Path | None) -> None:
    """Hash code and data again. Raises InputError where one differs from the recipe."""
    check_code_unchanged(folder, recipe, "the recorded code changed during the run")
    if data is None or recipe.data is None:
        return
    found = hash_tree(data, "data", progress=plain_progress("checking the data"))
    if found.digest != recipe.data:
        raise _changed(DATA_CHANGED, read_manifest(folder.data_manifest), found)


def keep_image_recipe(folder: RunDir) -> None:
    """Copy what the image was built from into the run's folder. Raises StorageError."""
    # Of several workers, only the chief keeps it.
    if folder.image.is_symlink():
        return
    # This module's own source lies in the build context, as <context>/source/samebits.
    context, part = Path(samebits.__file__).parents[2], folder.path / ".image"
    try:
        shutil.copytree(context, part, ignore=shutil.ignore_patterns("__pycache__"))
        part.rename(folder.image)
    except OSError as error:
        raise storage_error(error, folder.image) from error


def check_device(kind: str, gpus: int) -> None:
    """Raise SettingError where TensorFlow would train on another device than the recipe's."""
    if kind == "gpu" and gpus == 0:
        raise SettingError("the run needs a GPU and TensorFlow finds none; run without --gpus, or fix the driver")
    if kind == "cpu" and gpus > 0:
        raise SettingError(f"the recipe is for a CPU and TensorFlow finds {gpus} GPUs; request them with --gpus")


def _changed(meaning: str, before: Tree, after: Tree) -> InputError:
    paths = differing_paths(before, after)
    return InputError(f"{meaning}: {shorten(paths, 3)}; the result does not belong to the recipe, run again")
