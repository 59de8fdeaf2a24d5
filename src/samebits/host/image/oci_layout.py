"""One image of an OCI layout, found by its digest. Every file that is read on the way has the digest it is named by."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from samebits.core.digest import Digest
from samebits.core.errors import ImageError, RecordError
from samebits.core.jsonio import Fields

MAX_JSON = 16 << 20
"""Bytes of a manifest or configuration."""

_MAX_DEPTH = 3  # an index may name another one

Read = Callable[[Digest], bytes | None]
"""The content of a small file by its digest; None where it is not there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OciImage:
    """The digests of an image's manifest, configuration and layers, as the manifest names them."""

    manifest: Digest
    config: Digest
    layers: tuple[Digest, ...]


def find_image(index: bytes, read: Read, wanted: Digest | None = None) -> OciImage:
    """The image whose manifest or configuration has the digest `wanted`, else the only one; raises ImageError."""
    try:
        descriptors = [item.rest() for item in Fields(json.loads(index)).objects("manifests")]
        found = [image for one in descriptors for image in _images(one, read, 0)]
    except (ValueError, RecordError, RecursionError, AttributeError, TypeError) as error:
        raise ImageError("this is no OCI image; write it with Docker 25 or later: docker save IMAGE -o FILE") from error
    if wanted is None and len(found) != 1:
        raise ImageError(f"the archive holds {len(found)} images; export the one to train in")
    for image in found:
        if wanted in (None, image.manifest, image.config):
            return image
    raise ImageError(f"the image {wanted} is not there")


def _images(descriptor: Mapping[str, Any], read: Read, depth: int) -> Iterator[OciImage]:
    digest = Digest.parse(str(descriptor.get("digest")))
    content = read(digest) if depth <= _MAX_DEPTH else None
    # An index also names what was left out, such as images for other machines.
    if content is None:
        return
    if Digest.of_bytes(content) != digest:
        raise ImageError(f"the image is damaged: a file of it is not {digest}")
    value = Fields(json.loads(content)).rest()
    for inner in value.get("manifests", ()):
        yield from _images(inner, read, depth + 1)
    if "config" in value:
        yield OciImage(
            manifest=digest,
            config=Digest.parse(str(value["config"].get("digest"))),
            layers=tuple(Digest.parse(str(layer.get("digest"))) for layer in value.get("layers", ())),
        )
