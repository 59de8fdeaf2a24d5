#!/usr/bin/env python3
"""Write an image archive for `docker load` whose bytes, and thus the image's ID, depend on the arguments only.

`docker import` stores the time of the import, so that the same files get a new ID each time. The archive is an OCI
layout, with the manifest.json that engines without containerd's image store read. Needs the standard library only.
"""

import argparse
import hashlib
import io
import json
import sys
import tarfile
import time
from typing import BinaryIO

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARCHITECTURES = {"i386": "386", "armhf": "arm", "ppc64el": "ppc64le"}  # where Debian's and OCI's names differ


def full_name(tag: str) -> str:
    """The tag as containerd stores it, with the registry, `library/` and version that docker implies."""
    if ":" not in tag.rpartition("/")[2]:
        tag += ":latest"
    first, slash, _ = tag.partition("/")
    if not slash:
        return "docker.io/library/" + tag
    return tag if first == "localhost" or "." in first or ":" in first else "docker.io/" + tag


def encode(document: object) -> bytes:
    """The one JSON text of a document: keys sorted, no spaces."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def descriptor(media_type: str, digest: str, size: int, **more: object) -> dict[str, object]:
    """A reference from one part of an OCI layout to another."""
    return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": size, **more}


def write_archive(out: BinaryIO, layer: BinaryIO, tag: str, architecture: str, epoch: int) -> None:
    """Write the archive of an image with one layer, an uncompressed tar."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    sha256 = hashlib.sha256()
    while chunk := layer.read(1 << 20):
        sha256.update(chunk)
    layer_digest, layer_size = sha256.hexdigest(), layer.tell()
    layer.seek(0)

    architecture = ARCHITECTURES.get(architecture, architecture)
    platform = {"architecture": architecture, "os": "linux", **({"variant": "v7"} if architecture == "arm" else {})}
    config = encode(
        {
            **platform,
            "created": created,
            "config": {"Env": [f"PATH={PATH}", "LANG=C.UTF-8"], "Cmd": ["bash"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            "history": [{"created": created, "created_by": "debootstrap"}],
        }
    )
    config_digest = hashlib.sha256(config).hexdigest()
    manifest = encode(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", config_digest, len(config)),
            # Not compressed: zlib's output may change.
            "layers": [descriptor("layer.v1.tar", layer_digest, layer_size)],
        }
    )
    manifest_digest = hashlib.sha256(manifest).hexdigest()
    name = full_name(tag)
    annotations = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    index = descriptor("manifest.v1+json", manifest_digest, len(manifest), platform=platform, annotations=annotations)

    blobs = "blobs/sha256/"
    loadable = {"Config": blobs + config_digest, "RepoTags": [tag], "Layers": [blobs + layer_digest]}
    members: dict[str, bytes | BinaryIO] = {
        "oci-layout": encode({"imageLayoutVersion": "1.0.0"}),
        "index.json": encode({"schemaVersion": 2, "manifests": [index]}),
        "manifest.json": encode([loadable]),
        blobs + manifest_digest: manifest,
        blobs + config_digest: config,
        blobs + layer_digest: layer,
    }
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        for path, content in members.items():
            member = tarfile.TarInfo(path)
            member.mtime = epoch
            member.size = len(content) if isinstance(content, bytes) else layer_size
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else content)


def main() -> None:
    """Write the archive to stdout."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("layer", help="the file system, as an uncompressed tar")
    parser.add_argument("tag")
    parser.add_argument("architecture", help="as printed by `dpkg --print-architecture`")
    parser.add_argument("epoch", type=int, help="the image's time of creation, in seconds since 1970")
    arguments = parser.parse_args()
    with open(arguments.layer, "rb") as layer:
        write_archive(sys.stdout.buffer, layer, arguments.tag, arguments.architecture, arguments.epoch)


if __name__ == "__main__":
    main()
