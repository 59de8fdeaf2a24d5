"""Images for Apptainer, which a program in its place unpacks: only what the digests name, and only while unchanged."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import ImageError, NoEngineError, StorageError
from samebits.core.recipe import ImageIdentity
from samebits.host.apptainer import Apptainer
from samebits.host.docker import Image
from samebits.host.image.build import BASE_LABEL
from samebits.host.image.build_context import CPU, source_digest
from samebits.host.launch import apptainer_images, unpacked_choice
from samebits.host.launch.apptainer_images import ApptainerImages, named_config
from samebits.host.launch.installed_files import check_files, record_files

_UNPACK = """\
[ $1 = --version ] && exit
case $6 in
  docker:*) mkdir -p "$5" cache/blob && cp -r "$REGISTRY"/* cache/blob ;;
  *) mkdir -p "$5/opt" && cat layout/index.json >"$5/opt/index" && cp -r layout/blobs/sha256 "$5/opt/blobs" ;;
esac
"""


class Layout:
    """An image as an OCI layout, made from a few values that a test may change."""

    def __init__(self, folder: Path, **labels: str) -> None:
        self.folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True)
        self.content = _tar({"hello": b"hi\n"})
        self.layer = gzip.compress(self.content, mtime=0)
        process = {"Labels": labels, "WorkingDir": "/work", "Entrypoint": ["/p", "/s/samebits/runner/clean_start.py"]}
        self.config: dict[str, Any] = {"architecture": "amd64", "os": "linux", "config": process}
        self.diff_ids = [f"sha256:{hashlib.sha256(self.content).hexdigest()}"]
        self.index: list[dict[str, Any]] = []
        self.more: dict[str, Any] = {}

    def write(self) -> tuple[Digest, Digest]:
        """The digests of configuration and manifest."""
        config = self.blob(json.dumps(self.config | {"rootfs": {"diff_ids": self.diff_ids}}).encode())
        layers = [self.blob(self.layer) | self.more]
        manifest = self.blob(json.dumps({"config": config, "layers": layers, **self.more}).encode())
        self.index.append(manifest)
        (self.folder / "index.json").write_text(json.dumps({"manifests": self.index}))
        return Digest.parse(config["digest"]), Digest.parse(manifest["digest"])

    def blob(self, content: bytes) -> dict[str, Any]:
        name = hashlib.sha256(content).hexdigest()
        (self.folder / "blobs" / "sha256" / name).write_bytes(content)
        return {"mediaType": "m", "digest": f"sha256:{name}", "size": len(content)}

    def archive(self) -> bytes:
        files = {str(path.relative_to(self.folder)): path for path in sorted(self.folder.rglob("*")) if path.is_file()}
        return _tar({name: path.read_bytes() for name, path in files.items()})


def _tar(files: dict[str, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return output.getvalue()


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApptainerImages:
    """A store of its own, and a program that unpacks into it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "apptainer").write_text("#!/bin/sh\n" + _UNPACK.replace("$REGISTRY", f"{tmp_path}/layout"))
    (tmp_path / "bin" / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    return ApptainerImages(Apptainer())


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout", **{"samebits.device": "cpu"})


def load(images: ApptainerImages, layout: Layout, wanted: Digest) -> Image:
    return images.load(iter([layout.archive()]), wanted)


def test_an_image_is_unpacked_once_and_found_by_its_digest(
    images: ApptainerImages, layout: Layout, tmp_path: Path
) -> None:
    config, manifest = layout.write()
    assert images.find(config) is None
    image = load(images, layout, config)
    assert (image.id, image.layers) == (str(config), tuple(layout.diff_ids))
    assert image.labels == {"samebits.device": "cpu"}
    assert images.find(config) == image
    assert list(images.images()) == [image]
    unpacked = images.unpacked(image)
    assert (unpacked.entrypoint[0], unpacked.folder) == ("/p", "/work")
    given, (content, *others) = given_to_apptainer(unpacked.rootfs)
    assert Digest.of_bytes(content) != manifest
    assert [item["digest"] for item in given] == [str(Digest.of_bytes(content))]
    assert sorted(others) == sorted(
        [layout.layer, (tmp_path / "cache" / "apptainer" / config.hex / "config.json").read_bytes()]
    )
    images.check(image, thorough=True)
    assert [path.name for path in (tmp_path / "cache" / "apptainer").iterdir() if path.is_dir()] == [config.hex]


def given_to_apptainer(rootfs: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """What its index names, and the content of all files, the manifest first."""
    index = json.loads((rootfs / "opt" / "index").read_bytes())["manifests"]
    blobs = {path.name: path.read_bytes() for path in (rootfs / "opt" / "blobs").iterdir()}
    first = index[0]["digest"].removeprefix("sha256:")
    return index, [blobs.pop(first), *blobs.values()]


@pytest.mark.parametrize("compressed", [True, False])
def test_apptainer_is_given_no_address(images: ApptainerImages, layout: Layout, *, compressed: bool) -> None:
    layout.layer = layout.layer if compressed else layout.content
    layout.more = {"urls": ["http://127.0.0.1:9/layer"], "annotations": {"a": "b"}}
    image = load(images, layout, layout.write()[0])
    content = given_to_apptainer(images.unpacked(image).rootfs)[1][0]
    assert json.loads(content) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": image.id,
            "size": (images.unpacked(image).rootfs.parent / "config.json").stat().st_size,
        },
        "layers": [
            {
                "mediaType": f"application/vnd.oci.image.layer.v1.tar{'+gzip' if compressed else ''}",
                "digest": str(Digest.of_bytes(layout.layer)),
                "size": len(layout.layer),
            }
        ],
    }


def test_a_file_that_was_changed_later(images: ApptainerImages, layout: Layout) -> None:
    image = load(images, layout, layout.write()[0])
    (images.unpacked(image).rootfs / "opt" / "index").write_text("another")
    with pytest.raises(
        ImageError, match=r"^the unpacked image .* was changed: rootfs/opt/index \(changed\); remove it"
    ):
        images.check(image)


def test_a_configuration_that_was_changed_later(images: ApptainerImages, layout: Layout, tmp_path: Path) -> None:
    config, _ = layout.write()
    load(images, layout, config)
    (tmp_path / "cache" / "apptainer" / config.hex / "config.json").write_text("{}")
    with pytest.raises(ImageError, match="was changed; remove it, and the next run makes it again"):
        images.find(config)


def test_a_folder_that_others_can_write(images: ApptainerImages, layout: Layout, tmp_path: Path) -> None:
    config, _ = layout.write()
    load(images, layout, config)
    (tmp_path / "cache" / "apptainer" / config.hex / "config.json").chmod(0o666)
    with pytest.raises(StorageError, match="can be written by others"):
        images.find(config)


def _other_layer(layout: Layout) -> None:
    """The configuration names what it named; the manifest, another layer."""
    layout.layer = gzip.compress(_tar({"hello": b"ha\n"}), mtime=0)


def _more_layers(layout: Layout) -> None:
    layout.diff_ids = layout.diff_ids * 2


def _other_platform(layout: Layout) -> None:
    layout.config["architecture"] = "arm64"


def _no_platform(layout: Layout) -> None:
    del layout.config["os"]


def _zstd(layout: Layout) -> None:
    layout.layer = b"\x28\xb5\x2f\xfd" + layout.layer


def _broken_gzip(layout: Layout) -> None:
    layout.layer = layout.layer[:-12]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_other_layer, r"^the image's layers are not those that its configuration names$"),
        (_more_layers, r"^the image's layers are not those that its configuration names$"),
        (_other_platform, r"^the image is for linux/arm64, not linux/amd64; name that one$"),
        (_no_platform, r"^the image's configuration cannot be read: 'os'$"),
        (_zstd, r"^the image is compressed with zstd, which is not read here; push it with gzip$"),
        (_broken_gzip, r"^a layer of the image cannot be read: "),
    ],
)
def test_another_image_than_the_digest_names(
    images: ApptainerImages, layout: Layout, change: Callable[[Layout], None], complaint: str
) -> None:
    change(layout)
    config, _ = layout.write()
    with pytest.raises(ImageError, match=complaint):
        load(images, layout, config)
    assert list(images.images()) == []


def test_a_plain_layer(images: ApptainerImages, layout: Layout) -> None:
    layout.layer = layout.content
    assert load(images, layout, layout.write()[0]).layers == tuple(layout.diff_ids)


def test_a_damaged_archive(images: ApptainerImages, layout: Layout) -> None:
    config, _ = layout.write()
    with pytest.raises(ImageError, match=r"^the image's archive is damaged: a file of it is sha256:"):
        images.load(iter([layout.archive().replace(b"amd64", b"amd65")]), config)
    with pytest.raises(ImageError, match=r"^the image's archive cannot be read: "):
        images.load(iter([b"nothing" * 200]), config)
    with pytest.raises(ImageError, match=r"^the image sha256:0+ is not there$"):
        load(images, layout, Digest("0" * 64))


def test_a_pulled_image_is_pulled_once(images: ApptainerImages, layout: Layout, tmp_path: Path) -> None:
    config, manifest = layout.write()
    image = images.pull(f"here/x@{manifest}")
    assert image.id == str(config)
    (tmp_path / "bin" / "apptainer").write_text("#!/bin/sh\nexit 1\n")
    assert images.pull(f"here/x@{manifest}") == image


def test_what_a_registry_served_is_read_again(images: ApptainerImages, layout: Layout) -> None:
    """Apptainer's own cache may hold anything."""
    _, manifest = layout.write()
    blob = layout.folder / "blobs" / "sha256" / hashlib.sha256(layout.layer).hexdigest()
    blob.write_bytes(gzip.compress(_tar({"hello": b"ha\n"}), mtime=0))
    with pytest.raises(ImageError, match=r"^the image is damaged: a file of it is not sha256:"):
        images.pull(f"here/x@{manifest}")


def test_the_image_that_an_archive_holds(layout: Layout, tmp_path: Path) -> None:
    config, _ = layout.write()
    archive = tmp_path / "image.tar"
    archive.write_bytes(layout.archive())
    assert named_config(archive) == config
    layout.config["os"] = "plan9"
    layout.write()
    archive.write_bytes(layout.archive())
    with pytest.raises(ImageError, match=r"^the archive holds 2 images; export the one to train in$"):
        named_config(archive)
    archive.write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"image.tar is no archive of an image: "):
        named_config(archive)
    with tarfile.open(archive, "w") as file:
        link = tarfile.TarInfo("index.json")
        link.type, link.linkname = tarfile.SYMTYPE, "missing"
        file.addfile(link)
    with pytest.raises(ImageError):
        named_config(archive)


def test_a_pipe_in_a_folder_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    record_files(tmp_path)
    check_files(tmp_path, thorough=True)


def test_an_image_without_its_own_start(images: ApptainerImages, layout: Layout) -> None:
    layout.config["config"]["Entrypoint"] = ["/bin/sh"]
    image = load(images, layout, layout.write()[0])
    with pytest.raises(ImageError, match=r"is of a samebits without Apptainer; use Docker or Podman$"):
        images.unpacked(image)


@pytest.fixture
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise NoEngineError("none answers")

    monkeypatch.setattr(unpacked_choice, "Engine", refuse)


@pytest.fixture
def fitting(tmp_path: Path) -> Layout:
    labels = {"samebits.device": "cpu", "samebits.lock": str(CPU.lock_digest), "samebits.python": "3.13"}
    return Layout(tmp_path / "layout", **labels, **{"samebits.source": str(source_digest(CPU)), BASE_LABEL: ""})


@pytest.mark.usefixtures("_no_engine")
def test_without_an_engine_the_only_image_that_fits(
    images: ApptainerImages, fitting: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ImageError, match=r"^Apptainer has no image samebits:cpu, and builds none; name one by digest"):
        unpacked_choice.find_unpacked(images, CPU, None)
    config, _ = fitting.write()
    archive = tmp_path / "image.tar"
    archive.write_bytes(fitting.archive())
    image, identity = unpacked_choice.find_unpacked(images, CPU, str(archive))
    assert (image.id, identity.config, identity.source) == (str(config), config, source_digest(CPU))
    assert unpacked_choice.find_unpacked(images, CPU, None) == (image, identity)
    # An archive whose image is there is not read again, and what is recorded is found under any name.
    monkeypatch.setattr(apptainer_images, "unpack_layout", None)
    assert unpacked_choice.find_unpacked(images, CPU, str(archive)) == (image, identity)
    assert unpacked_choice.find_unpacked(images, CPU, "nowhere:1", identity) == (image, identity)
    assert unpacked_choice.find_unpacked(images, CPU, str(config)) == (image, identity)
    other = ImageIdentity(lock=identity.lock, source=identity.source, config=Digest("0" * 64))
    with pytest.raises(ImageError, match=r"^Apptainer has no image samebits:cpu"):
        unpacked_choice.find_unpacked(images, CPU, None, other)


def test_an_image_of_another_lock(images: ApptainerImages, fitting: Layout, tmp_path: Path) -> None:
    fitting.config["config"]["Labels"]["samebits.lock"] = f"sha256:{'0' * 64}"
    fitting.write()
    (tmp_path / "image.tar").write_bytes(fitting.archive())
    with pytest.raises(ImageError, match=r"was built from another lock \(sha256:0"):
        unpacked_choice.find_unpacked(images, CPU, str(tmp_path / "image.tar"))
