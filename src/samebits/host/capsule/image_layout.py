"""An image as an OCI layout: out of the engine's export into a capsule, and out of an unpacked one into the engine.

The blobs are named by their sha256. Only those are used that a manifest leads to, whose configuration has the recorded
digest. The index is written by this module on both sides: the names in a received one would replace a user's images.
"""

import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import ImageError, RecordError
from samebits.core.jsonio import Fields, canonical_json
from samebits.core.run_files import read_plain
from samebits.host.capsule.archive import Source, header, padding
from samebits.host.capsule.contents import IMAGE, Member

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MAX_JSON = 16 << 20  # of a manifest or configuration
_MAX_DEPTH = 3  # an index may name another one

Blobs = Mapping[str, Source]
"""By the hex digits of their digests."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedImage:
    """One image of a layout: the descriptor of its manifest or index, its configuration, and the name that it gets."""

    name: str
    descriptor: Mapping[str, Any]
    manifest: Mapping[str, Any]
    reached: tuple[str, ...]

    @property
    def digest(self) -> str:
        """What the containerd store calls the image."""
        return str(self.descriptor["digest"])

    @property
    def config(self) -> str:
        """The digest of its configuration, which the classic store calls the image."""
        return str(self.manifest["config"]["digest"])


def exported(archive: Path) -> tuple[Blobs, list[Mapping[str, Any]]]:
    """The blobs of an export of the engine, and the images' descriptors; raises ImageError for another format."""
    blobs, index = {}, None
    with tarfile.open(archive) as file:
        for info in file:
            found = _BLOB.fullmatch(info.name)
            if found is not None and info.isreg():
                member = Member(path=f"{IMAGE}/{info.name}", size=info.size, digest=Digest(found[1]))
                blobs[found[1]] = Source(member=member, path=archive, offset=info.offset_data)
            content = file.extractfile(info) if info.name == "index.json" else None
            index = index if content is None else json.loads(content.read())
    if index is None or not index.get("manifests"):
        raise ImageError("the engine does not export images as an OCI layout; use Docker 25 or later, or leave it out")
    return blobs, index["manifests"]


def unpacked(folder: Path) -> Blobs:
    """The blobs of an unpacked capsule, whose digests were checked."""
    return kept(folder / IMAGE / "blobs" / "sha256")


def kept(root: Path, *, stored: bool = False) -> Blobs:
    """The files in a folder that are named by their digests; a store's are not in the capsule."""
    found = {}
    for name in os.listdir(root) if root.is_dir() else ():
        size = os.stat(root / name, follow_symlinks=False).st_size
        member = Member(path=f"{IMAGE}/blobs/sha256/{name}", size=size, digest=Digest(name), stored=stored)
        found[name] = Source(member=member, path=root / name, within=root)
    return found


def resolve(blobs: Blobs, descriptors: Iterable[Mapping[str, Any]], name: str, wanted: str) -> NamedImage:
    """The image that has the digest `wanted`, or whose configuration has it; raises ImageError for any other."""
    try:
        found = ((one, *image) for one in descriptors for image in _manifests(blobs, one, 0))
        for descriptor, manifest, reached in found:
            if wanted in (descriptor["digest"], manifest["config"]["digest"]):
                layers = [str(layer["digest"]) for layer in manifest["layers"]]
                needed = [*reached, *map(_hex, (str(manifest["config"]["digest"]), *layers))]
                if missing := [name for name in needed if name not in blobs]:
                    raise ImageError(f"the image lacks the layer sha256:{missing[0]}")
                return NamedImage(
                    name=name, descriptor=_plain(descriptor), manifest=manifest, reached=tuple(dict.fromkeys(needed))
                )
    except (KeyError, TypeError, ValueError, RecordError, RecursionError, AttributeError, OSError) as error:
        raise ImageError(f"the image's manifest cannot be read: {error}") from error
    raise ImageError("the image is not the recorded one")


def _manifests(
    blobs: Blobs, descriptor: Mapping[str, Any], depth: int
) -> Iterator[tuple[Mapping[str, Any], tuple[str, ...]]]:
    """Each image manifest that a descriptor leads to, with the hex digits of what was read on the way."""
    name = _hex(str(descriptor["digest"]))
    if name not in blobs or depth > _MAX_DEPTH:
        return
    value = _read(blobs[name])
    for inner in value.get("manifests", ()):
        for manifest, reached in _manifests(blobs, inner, depth + 1):
            yield manifest, (name, *reached)
    if "config" in value:
        yield value, (name,)


def _read(source: Source) -> Mapping[str, Any]:
    if source.member.size > _MAX_JSON:
        raise ImageError(f"a manifest of the image is larger than {_MAX_JSON >> 20} MiB")
    with source.opened() as file:
        return Fields(json.loads(file.read(source.member.size))).rest()


def _hex(digest: str) -> str:
    return Digest.parse(digest).hex


def _plain(descriptor: Mapping[str, Any]) -> dict[str, Any]:
    """Without the names that the engine gave the image."""
    return {name: descriptor[name] for name in ("mediaType", "digest", "size")}


def layout(images: Iterable[NamedImage], blobs: Blobs) -> list[Source]:
    """The files of an OCI layout of these images, which `docker load` reads; each blob once."""
    images = list(images)
    manifests = [_named(image) for image in images]
    index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": manifests}
    # The classic store of older engines reads this file.
    legacy = [
        {
            "Config": _blob_path(image.config),
            "RepoTags": [image.name],
            "Layers": [_blob_path(str(layer["digest"])) for layer in image.manifest["layers"]],
        }
        for image in images
    ]
    written = {"oci-layout": _LAYOUT, "index.json": canonical_json(index), "manifest.json": canonical_json(legacy)}
    reached = dict.fromkeys(name for image in images for name in image.reached)
    files = [_written(f"{IMAGE}/{name}", content) for name, content in written.items()]
    return files + [blobs[name] for name in reached]


def _named(image: NamedImage) -> dict[str, Any]:
    names = {"io.containerd.image.name": f"docker.io/library/{image.name}"}
    names["org.opencontainers.image.ref.name"] = image.name.partition(":")[2]
    return {**image.descriptor, "annotations": names}


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{_hex(digest)}"


def _written(path: str, content: bytes) -> Source:
    digest = Digest.of_bytes(content)
    return Source(member=Member(path=path, size=len(content), digest=digest), content=content)


def descriptors(folder: Path) -> list[Mapping[str, Any]]:
    """What the index of an unpacked capsule names; raises ImageError for one that samebits did not write."""
    try:
        content = read_plain(folder / IMAGE / "index.json", _MAX_JSON, folder)
        return [item.rest() for item in Fields(json.loads(content)).objects("manifests")]
    except (OSError, ValueError, RecordError, RecursionError) as error:
        raise ImageError(f"the capsule's image cannot be read: {error}") from error


def stream(files: Iterable[Source]) -> Iterator[bytes]:
    """The tar archive that `docker load` reads, as blocks."""
    for source in files:
        yield header(_inside(source.member))
        left = source.member.size
        with source.opened() as file:
            while left and (block := file.read(min(left, 1 << 20))):
                yield block
                left -= len(block)
        yield padding(source.member.size)
    yield bytes(1024)


def _inside(member: Member) -> Member:
    return Member(path=member.path.removeprefix(f"{IMAGE}/"), size=member.size)
