"""Images in capsules: only what the recipe names by digest is loaded, and under no name of the sender's."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import ImageError
from samebits.core.jsonio import canonical_json
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host.capsule import gather
from samebits.host.capsule.archive import Source, transfer
from samebits.host.capsule.blob_store import BlobStore
from samebits.host.capsule.contents import Member
from samebits.host.capsule.image_layout import descriptors, exported, layout, resolve, stream, unpacked
from samebits.host.docker import Image


def blob(content: bytes) -> tuple[str, Source]:
    digest = Digest.of_bytes(content)
    return digest.hex, Source(
        member=Member(path=f"image/blobs/sha256/{digest.hex}", size=len(content), digest=digest), content=content
    )


def image(*layers: bytes) -> tuple[dict[str, Source], dict[str, Any], str]:
    """Blobs, descriptor and digest of the configuration of an image."""
    config = blob(canonical_json({"layers": len(layers)}))
    parts = [blob(layer) for layer in layers]
    manifest = {
        "config": {"digest": f"sha256:{config[0]}"},
        "layers": [{"digest": f"sha256:{name}"} for name, _ in parts],
    }
    top = blob(canonical_json(manifest))
    descriptor = {"mediaType": "m", "digest": f"sha256:{top[0]}", "size": top[1].member.size, "annotations": {"x": "y"}}
    return dict([config, *parts, top]), descriptor, f"sha256:{config[0]}"


def test_there_and_back(tmp_path: Path) -> None:
    blobs, descriptor, config = image(b"one", b"two")
    stranger = dict([blob(b"of another image")])
    found = resolve(blobs | stranger, [descriptor], "samebits:capsule-1", config)
    archive = tmp_path / "loaded.tar"
    archive.write_bytes(b"".join(stream(layout([found], blobs | stranger))))
    with tarfile.open(archive) as file:
        names = file.getnames()
        index = json.loads(file.extractfile("index.json").read())  # type: ignore[union-attr]
        file.extractall(tmp_path / "image", filter="data")
    assert names == ["oci-layout", "index.json", "manifest.json", *(f"blobs/sha256/{name}" for name in found.reached)]
    assert not set(stranger) & set(found.reached)
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "docker.io/library/samebits:capsule-1"
    again, top = exported(archive)
    assert set(again) == set(found.reached)
    assert resolve(again, top, "n", config).digest == descriptor["digest"]
    assert resolve(unpacked(tmp_path), descriptors(tmp_path), "n", config).config == config


def test_an_index_above_the_manifest() -> None:
    blobs, descriptor, config = image(b"one")
    name, top = blob(canonical_json({"manifests": [{"digest": f"sha256:{'0' * 64}"}, descriptor]}))
    outer = {"mediaType": "i", "digest": f"sha256:{name}", "size": 1}
    found = resolve(blobs | {name: top}, [outer], "n", config)
    assert (found.reached[0], found.config) == (name, config)


def test_another_image_is_refused() -> None:
    blobs, descriptor, _ = image(b"one")
    with pytest.raises(ImageError, match="the image is not the recorded one"):
        resolve(blobs, [descriptor], "n", f"sha256:{'1' * 64}")


def test_a_missing_layer() -> None:
    blobs, descriptor, config = image(b"one")
    del blobs[Digest.of_bytes(b"one").hex]
    with pytest.raises(ImageError, match="the image lacks the layer"):
        resolve(blobs, [descriptor], "n", config)


@pytest.mark.parametrize(
    "content",
    [b"[]", b"{", b'{"config": 1, "layers": []}', b'{"manifests": 7}', b"\xff", b'{"manifests": ' + b"[" * 200_000],
    ids=lambda content: repr(content[:16]),
)
def test_a_manifest_that_is_none(content: bytes) -> None:
    name, top = blob(content)
    with pytest.raises(ImageError, match="the image"):
        resolve({name: top}, [{"digest": f"sha256:{name}"}], "n", "c")


def test_an_index_that_names_itself_ends() -> None:
    """No sha256 does; but the depth is bounded, whatever the digests."""
    name = "0" * 64
    content = canonical_json({"manifests": [{"digest": f"sha256:{name}"}] * 2})
    top = Source(member=Member(path="image/blobs/sha256/x", size=len(content)), content=content)
    with pytest.raises(ImageError, match="not the recorded one"):
        resolve({name: top}, [{"digest": f"sha256:{name}"}], "n", "c")


def test_an_export_of_an_old_engine(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "old.tar", "w") as file:
        file.addfile(tarfile.TarInfo("manifest.json"), io.BytesIO())
    with pytest.raises(ImageError, match="use Docker 25 or later"):
        exported(tmp_path / "old.tar")


def test_an_image_in_the_store_is_not_exported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example: Record
) -> None:
    """Its files are read from there while all are as they were; else they are exported and written again."""
    blobs, descriptor, config = image(b"one", b"two")
    recipe = replace(example.recipe, image=replace(example.recipe.image, config=Digest.parse(config), base=None))
    record, run = replace(example, recipe=recipe), RunDir(tmp_path)
    exports: list[Path] = []

    class FakeEngine:
        def export(self, images: list[Image], path: Path) -> None:
            assert [image.reference for image in images] == ["samebits:cpu"]
            exports.append(path)
            path.write_bytes(b"".join(stream(layout([resolve(blobs, [descriptor], "n", config)], blobs))))

    monkeypatch.setattr(gather, "Engine", FakeEngine)
    found = Image(reference="samebits:cpu", id=config, labels={})
    monkeypatch.setattr(gather, "provide_recorded", lambda *_, **__: found)
    store = BlobStore(tmp_path / "store")

    def packed() -> list[bytes]:
        files = [store.take(one) for one in gather.image_files(run, record, frozenset({"image"}), tmp_path, store)]
        assert all(one.member.stored for one in files if one.member.path.startswith("image/blobs/"))
        found: list[bytes] = []
        for one in files:
            transfer(one, found.append)
        return found

    first = packed()
    assert (packed(), len(exports)) == (first, 1)
    damaged = next((tmp_path / "store" / "sha256").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert (packed(), len(exports)) == (first, 2)
    damaged.unlink()
    assert (packed(), len(exports)) == (first, 3)
    (note,) = (tmp_path / "store" / "images").iterdir()
    for content in ("{", "[]", "{}", json.dumps(descriptor | {"digest": "sha256:" + "0" * 64})):
        note.write_text(content)
        exported_before = len(exports)
        assert (packed(), len(exports)) == (first, exported_before + 1)


def test_image_and_base_are_exported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example: Record) -> None:
    """They share layers, which two exports would read twice; each is found by its own digest."""
    (base_blobs, base, base_config), (blobs, descriptor, config) = image(b"one"), image(b"one", b"two")
    recorded = replace(example.recipe.image, config=Digest.parse(config), base=Digest.parse(base_config))
    recipe = replace(example.recipe, image=recorded)
    exports: list[list[str]] = []

    class FakeEngine:
        def export(self, images: list[Image], path: Path) -> None:
            exports.append([image.reference for image in images])
            both = blobs | base_blobs
            found = [resolve(both, [base], "b", base_config), resolve(both, [descriptor], "i", config)]
            path.write_bytes(b"".join(stream(layout(found, both))))

    monkeypatch.setattr(gather, "Engine", FakeEngine)
    for part, wanted in (("image", config), ("base", base_config)):
        found = (Image(reference=part, id=wanted, labels={}), f"name-of:{part}", wanted)
        monkeypatch.setattr(gather, f"_{part}", lambda *_, found=found: found)
    parts = frozenset({"image", "base"})
    files = gather.image_files(RunDir(tmp_path), replace(example, recipe=recipe), parts, tmp_path)
    (index,) = (json.loads(one.content or b"") for one in files if one.member.path == "image/index.json")
    assert [one["digest"] for one in index["manifests"]] == [descriptor["digest"], base["digest"]]
    assert exports == [["image", "base"]]


def test_another_image_of_the_store_is_not_taken(tmp_path: Path) -> None:
    """Whatever a note says, the digest of the recipe decides."""
    blobs, descriptor, config = image(b"one")
    store = BlobStore(tmp_path)
    found = resolve(blobs, [descriptor], "n", config)
    for one in blobs.values():
        store.take(one)
    store.remember(found, config)
    assert store.image("n", config) is not None
    other = f"sha256:{'0' * 64}"
    store.remember(found, other)
    assert store.image("n", other) is None
