"""What the cache says of images is held against the engine; a tag or a base that has moved is named."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import StorageError
from samebits.host.cache_dir import cache_folder, read_own
from samebits.host.docker import Image
from samebits.host.image.build import config_digest, known_metadata
from samebits.host.image.tag_notes import moved_base, moved_tag

_LABELS = {
    "org.opencontainers.image.base.digest": "sha256:" + "b" * 64,
    "org.opencontainers.image.base.name": "base:1",
    "samebits.lock": "sha256:" + "1" * 64,
    "samebits.source": "sha256:" + "5" * 64,
}
IMAGE = Image(reference="samebits:cpu", id="sha256:" + "a" * 64, labels=_LABELS, layers=("one", "two"))
RIGHT, PLANTED = Digest("c" * 64), Digest("d" * 64)
KNOWN = {
    "config": str(PLANTED),
    "layers": ["one", "two"],
    "base": _LABELS["org.opencontainers.image.base.digest"],
    "lock": _LABELS["samebits.lock"],
    "source": _LABELS["samebits.source"],
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    return cache_folder("images")


def engine(*, containerd: bool = True, found: Image | None = None) -> Any:
    images = {} if found is None else {"base:1": found}
    return SimpleNamespace(uses_containerd_store=containerd, config_digest=lambda _: RIGHT, find_image=images.get)


def plant(cache: Path, value: Any, image: Image = IMAGE) -> Path:
    path = cache / f"{image.id.removeprefix('sha256:')}.json"
    path.write_text(json.dumps(value))
    return path


def test_what_the_engine_confirms(cache: Path) -> None:
    plant(cache, KNOWN)
    assert known_metadata(IMAGE) == KNOWN
    assert config_digest(engine(), IMAGE) == PLANTED


def test_an_id_that_is_the_digest_needs_no_file(cache: Path) -> None:
    plant(cache, KNOWN)
    assert config_digest(engine(containerd=False), IMAGE) == RIGHT


@pytest.mark.parametrize(
    "change",
    [{"layers": ["one"]}, {"layers": []}, {"layers": None}, {"base": "x"}, {"lock": "x"}, {"source": None}],
    ids=str,
)
def test_what_the_engine_contradicts(change: dict[str, Any], cache: Path) -> None:
    path = plant(cache, KNOWN | change)
    assert known_metadata(IMAGE) == {"layers": ["one", "two"]}
    assert config_digest(engine(), IMAGE) == RIGHT
    # The engine's answer takes its place.
    assert json.loads(path.read_text()) == {"config": str(RIGHT), "layers": ["one", "two"]}


def test_a_file_of_an_earlier_version_says_nothing(cache: Path) -> None:
    plant(cache, {"config": str(PLANTED)})
    assert config_digest(engine(), IMAGE) == RIGHT


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".other"))
    path.symlink_to(path.with_suffix(".other"))


def _large(path: Path) -> None:
    os.truncate(path, 1 << 40)


def _give_away(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(path, 4321, 4321)


def _open(path: Path) -> None:
    path.chmod(0o620)


@pytest.mark.parametrize("spoil", [_open, _link, _large, _give_away])
def test_a_file_that_others_could_have_written(spoil: Any, cache: Path) -> None:
    spoil(plant(cache, KNOWN))
    assert config_digest(engine(), IMAGE) == RIGHT


def test_reading_ones_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    assert read_own(tmp_path / "a") == b"a"
    (tmp_path / "a").chmod(0o622)
    with pytest.raises(StorageError, match="can be written by others; remove it"):
        read_own(tmp_path / "a")


@pytest.mark.parametrize("folder", ["", "trained"])
def test_folders_are_closed_to_others(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "trained").mkdir(parents=True, mode=0o755)
    (tmp_path / "cache" / folder).chmod(0o777)
    cache_folder("trained")
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "cache", tmp_path / "cache" / "trained")] == [0o700] * 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
@pytest.mark.parametrize("folder", ["", "trained"])
def test_folders_of_others_are_refused(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "trained").mkdir(parents=True)
    os.chown(tmp_path / "cache" / folder, 4321, 4321)
    with pytest.raises(StorageError, match="belongs to another user; name your own with SAMEBITS_CACHE"):
        cache_folder("trained")


def test_a_folder_that_anybody_may_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open").mkdir()
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "open" / "cache"))
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(StorageError, match=r"anybody may replace the cache .*, as .*open is open to all"):
        cache_folder("trained")
    (tmp_path / "open").chmod(0o1777)
    cache_folder("trained")


@pytest.mark.usefixtures("cache")
def test_a_tag_that_moved() -> None:
    other = replace(IMAGE, id="sha256:" + "e" * 64)
    assert moved_tag(IMAGE) is None
    assert moved_tag(IMAGE) is None
    assert moved_tag(other) == (
        f"samebits:cpu names another image than before, which was not built here: {other.id}, not {IMAGE.id}; to train"
        f" in the earlier one, use --image {IMAGE.id}"
    )
    assert moved_tag(other) is None, "it was said"
    assert moved_tag(IMAGE, "podman") is None, "another engine's tag"
    # What names its digest cannot move.
    for reference in (IMAGE.id, f"samebits@{IMAGE.id}"):
        assert moved_tag(replace(IMAGE, reference=reference)) is None
        assert moved_tag(replace(other, reference=reference)) is None


def test_a_tag_that_was_built_here(cache: Path) -> None:
    other = replace(IMAGE, id="sha256:" + "e" * 64)
    moved_tag(IMAGE)
    plant(cache, KNOWN | {"builder": {}}, other)
    assert moved_tag(other) is None


def test_a_base_that_moved() -> None:
    same = replace(IMAGE, reference="base:1", id=_LABELS["org.opencontainers.image.base.digest"])
    assert moved_base(engine(found=same), IMAGE) is None
    assert moved_base(engine(found=None), IMAGE) is None
    assert moved_base(engine(found=IMAGE), replace(IMAGE, labels={})) is None
    note = moved_base(engine(found=IMAGE), IMAGE)
    # A registry's digest is no id there.
    assert moved_base(engine(found=IMAGE, containerd=False), IMAGE) is None
    assert note == f"samebits:cpu was built on another base than base:1 is now: {same.id}, not {IMAGE.id}"
