"""Images that Apptainer runs: unpacked in the cache, each under the digest of its configuration.

    apptainer/HEX/config.json   the configuration, whose sha256 is HEX
    apptainer/HEX/rootfs/       the files, as Apptainer unpacked them
    apptainer/HEX/samebits-…    what the files were then, which each use compares

Before anything is unpacked, every layer has the digest that the configuration names.
"""

import gzip
import hashlib
import json
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

from samebits.core.digest import Digest
from samebits.core.errors import ImageError
from samebits.core.jsonio import Fields, canonical_json, storage_error, write_atomically
from samebits.host.apptainer import Apptainer, Unpacked
from samebits.host.cache_dir import UNPACKED, cache_folder, exclusive, read_own
from samebits.host.console import log_progress
from samebits.host.docker import Image
from samebits.host.image.oci_layout import MAX_JSON, OciImage, find_image
from samebits.host.image_archive import unpack_layout
from samebits.host.launch.installed_files import check_files, record_files

_BLOBS = "blobs/sha256"
_OCI = "application/vnd.oci.image"
_BLOCK = 1 << 20
_SMALL = 1 << 20  # bytes; manifests and configurations have thousands
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ENTRYPOINT = "/samebits/runner/clean_start.py"


class ApptainerImages:
    """The unpacked images of this user."""

    def __init__(self, apptainer: Apptainer) -> None:
        self.apptainer = apptainer

    def find(self, config: Digest) -> Image | None:
        """The image with that configuration; raises ImageError where the cache holds another one in its place."""
        folder = cache_folder(UNPACKED) / config.hex
        if not folder.is_dir():
            return None
        try:
            content = read_own(folder / "config.json")
        except OSError as error:
            raise storage_error(error, folder) from error
        if Digest.of_bytes(content) != config:
            raise ImageError(f"the image in {folder} was changed; remove it, and the next run makes it again")
        return _as_image(config, json.loads(content))

    def images(self) -> Iterator[Image]:
        """All of them."""
        for folder in sorted(cache_folder(UNPACKED).iterdir()):
            if folder.is_dir() and not folder.name.startswith("."):
                found = self.find(Digest(folder.name))
                if found is not None:
                    yield found

    def pull(self, reference: str) -> Image:
        """The image that a registry serves under a digest, which is that of a manifest."""
        wanted = Digest.parse(reference.partition("@")[2])
        note = cache_folder(UNPACKED) / f".pulled-{wanted.hex}"
        if note.is_file() and (known := self.find(Digest.parse(read_own(note).decode()))) is not None:
            return known
        log_progress(f"pulling {reference}")
        image = self._add(wanted, lambda draft: self.apptainer.pull(reference, draft))
        write_atomically(note, image.id.encode(), mode=0o600)
        return image

    def load(self, chunks: Iterator[bytes], wanted: Digest) -> Image:
        """The image with the `wanted` configuration in an exported archive."""

        def unpack(draft: Path) -> Path:
            unpack_layout(chunks, draft / "archive")
            return draft / "archive"

        return self._add(wanted, unpack)

    def _add(self, wanted: Digest, fill: Callable[[Path], Path]) -> Image:
        store = cache_folder(UNPACKED)
        with tempfile.TemporaryDirectory(dir=store, prefix=".draft-", ignore_cleanup_errors=True) as name:
            source = fill(Path(name))
            found = find_image(_index(source), partial(_read, source), wanted)
            with exclusive(store, found.config.hex):
                if not (store / found.config.hex).is_dir():
                    self._unpack(Path(name), found, source)
                    os.rename(Path(name) / "image", store / found.config.hex)
        image = self.find(found.config)
        if image is None:
            raise ImageError(f"the image {found.config} was removed while it was made; run again")
        return image

    def _unpack(self, draft: Path, found: OciImage, source: Path) -> None:
        """Check every file of an image, then have Apptainer unpack it into `draft/image`."""
        log_progress("unpacking the image for Apptainer (once for this image)")
        content = check_image(found, source)
        layout, image = draft / "layout", draft / "image"
        (layout / _BLOBS).mkdir(parents=True)
        # Two layers may be the same file.
        for digest in {found.config, *found.layers}:
            os.rename(source / _BLOBS / digest.hex, layout / _BLOBS / digest.hex)
        manifest = _manifest(layout, found)
        name = Digest.of_bytes(manifest)
        write_atomically(layout / _BLOBS / name.hex, manifest)
        only = _descriptor(layout, name, f"{_OCI}.manifest.v1+json")
        write_atomically(layout / "index.json", canonical_json({"schemaVersion": 2, "manifests": [only]}))
        write_atomically(layout / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        image.mkdir()
        self.apptainer.unpack(layout, image / "rootfs")
        shutil.rmtree(layout)
        write_atomically(image / "config.json", content)
        record_files(image)

    def check(self, image: Image, *, thorough: bool = False) -> None:
        """Raise ImageError where a file of an unpacked image was changed since it was unpacked."""
        folder = _folder(image)
        # Whoever frees the cache sees by the lock that it is used.
        with exclusive(folder.parent, folder.name):
            check_files(folder, thorough=thorough, what="unpacked image")

    def unpacked(self, image: Image) -> Unpacked:
        """Where an image lies, and what it starts; raises ImageError for one that Apptainer cannot start as Docker."""
        folder = _folder(image)
        values = _process(json.loads(read_own(folder / "config.json")))
        entrypoint = tuple(map(str, values.get("Entrypoint") or ()))
        if not entrypoint or not entrypoint[-1].endswith(_ENTRYPOINT):
            raise ImageError(f"the image {image.reference} is of a samebits without Apptainer; use Docker or Podman")
        return Unpacked(rootfs=folder / "rootfs", entrypoint=entrypoint, folder=str(values.get("WorkingDir") or "/"))


def _manifest(layout: Path, found: OciImage) -> bytes:
    """A manifest of what was checked, and of nothing else: one from outside may name addresses of its files."""
    layers = [
        _descriptor(layout, digest, f"{_OCI}.layer.v1.tar{'+gzip' if _is_gzip(layout / _BLOBS / digest.hex) else ''}")
        for digest in found.layers
    ]
    config = _descriptor(layout, found.config, f"{_OCI}.config.v1+json")
    return canonical_json(
        {"schemaVersion": 2, "mediaType": f"{_OCI}.manifest.v1+json", "config": config, "layers": layers}
    )


def _descriptor(layout: Path, digest: Digest, media_type: str) -> dict[str, Any]:
    size = (layout / _BLOBS / digest.hex).stat().st_size
    return {"mediaType": media_type, "digest": str(digest), "size": size}


def _is_gzip(layer: Path) -> bool:
    with layer.open("rb") as file:
        return file.read(len(_GZIP)) == _GZIP


def _folder(image: Image) -> Path:
    return cache_folder(UNPACKED) / Digest.parse(image.id).hex


def _process(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return Fields(dict(config)).inner("config").rest()


def _as_image(config: Digest, values: Mapping[str, Any]) -> Image:
    labels = {str(name): str(value) for name, value in (_process(values).get("Labels") or {}).items()}
    return Image(reference=str(config), id=str(config), labels=labels, layers=_diff_ids(values))


def _diff_ids(config: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(map(str, config["rootfs"]["diff_ids"]))


def _index(source: Path) -> bytes:
    try:
        return (source / "index.json").read_bytes()
    except OSError as error:
        raise ImageError("this is no OCI image; write it with Docker 25 or later: docker save IMAGE -o FILE") from error


def _read(source: Path, digest: Digest) -> bytes | None:
    path = source / _BLOBS / digest.hex
    return path.read_bytes() if path.is_file() and path.stat().st_size <= MAX_JSON else None


def named_config(archive: Path) -> Digest:
    """The configuration of the only image that an exported archive says it holds; raises ImageError for another one."""
    small: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as file:
            for member in file:
                # What a link leads to need not be there.
                content = file.extractfile(member) if member.isreg() and member.size <= _SMALL else None
                if content is not None:
                    small[member.name] = content.read()
    except (OSError, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ImageError(f"{archive} is no archive of an image: {error}") from error
    index = small.get("index.json", b"")
    return find_image(index, lambda digest: small.get(f"{_BLOBS}/{digest.hex}")).config


def check_image(found: OciImage, source: Path) -> bytes:
    """The configuration of an image whose layers are those that it names; raises ImageError for any other."""
    try:
        for digest in (found.manifest, found.config, *found.layers):
            if Digest.of_file(source / _BLOBS / digest.hex) != digest:
                raise ImageError(f"the image is damaged: a file of it is not {digest}")
        content = (source / _BLOBS / found.config.hex).read_bytes()
        values = json.loads(content)
        wanted = _diff_ids(values)
        platform = f"{values['os']}/{values['architecture']}"
    except FileNotFoundError as error:
        raise ImageError(f"the image lacks the file {error.filename}") from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ImageError(f"the image's configuration cannot be read: {error}") from error
    if platform != "linux/amd64":
        raise ImageError(f"the image is for {platform}, not linux/amd64; name that one")
    layers = [source / _BLOBS / digest.hex for digest in found.layers]
    if tuple(_content_digest(path.open("rb")) for path in layers) != wanted:
        raise ImageError("the image's layers are not those that its configuration names")
    return content


def _content_digest(layer: IO[bytes]) -> str:
    """The digest of a layer's uncompressed content."""
    digest = hashlib.sha256()
    with layer:
        first = layer.read(4)
        layer.seek(0)
        if first == _ZSTD:
            raise ImageError("the image is compressed with zstd, which is not read here; push it with gzip")
        content = gzip.GzipFile(fileobj=layer) if first.startswith(_GZIP) else layer
        try:
            while block := content.read(_BLOCK):
                digest.update(block)
        except (OSError, EOFError, zlib.error) as error:
            raise ImageError(f"a layer of the image cannot be read: {error}") from error
    return f"sha256:{digest.hexdigest()}"
