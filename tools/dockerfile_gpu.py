#!/usr/bin/env python3
"""Make Dockerfile.gpu from Dockerfile by adding a layer with CUDA; `make lock` calls it.

The two files differ in nothing else, and nobody has to copy changes by hand.
"""

from pathlib import Path

MARKER = "# (Dockerfile.gpu has CUDA here.)\n"
HEADING = "# The CPU image, a function of its build context: lock/, source/, image.json."
GPU_HEADING = (
    "# Made from Dockerfile by tools/dockerfile_gpu.py: change those, then `make lock`.\n"
    "# The GPU image, a function of its build context: lock/, cuda/, source/, image.json."
)
CUDA = """\
# NVIDIA's locked libraries. They change rarely and come first: a new TensorFlow does not move these gigabytes.
RUN --network=none --mount=type=bind,source=cuda,target=/media --mount=type=bind,from=wheelhouse,target=/mnt \\
    --mount=type=tmpfs,target=/tmp export PYTHONDONTWRITEBYTECODE=1 \\
 && python3 -m venv /tmp/pip \\
 && /tmp/pip/bin/pip --python /opt/samebits/venv/bin/python install --no-index --find-links=/mnt \\
      --require-hashes --no-deps --no-compile --no-cache-dir --disable-pip-version-check --quiet \\
      --root-user-action=ignore -r /media/requirements.lock

# What the NVIDIA container runtime provides, and the settings for GPUs; determinism_profile.py explains them.
ENV NVIDIA_VISIBLE_DEVICES=all \\
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \\
    NVIDIA_TF32_OVERRIDE=0 \\
    CUBLAS_WORKSPACE_CONFIG=:4096:8 \\
    XLA_FLAGS=--xla_gpu_deterministic_ops=true

"""


def gpu_dockerfile(dockerfile: str) -> str:
    """The text of Dockerfile.gpu; raises ValueError if Dockerfile lacks its heading or the marker for CUDA."""
    if MARKER not in dockerfile or HEADING not in dockerfile:
        raise ValueError("Dockerfile has lost its heading, or the line where CUDA goes")
    return dockerfile.replace(HEADING, GPU_HEADING).replace(MARKER, CUDA)


def main() -> None:
    """Write Dockerfile.gpu beside Dockerfile."""
    folder = Path(__file__).parents[1]
    (folder / "Dockerfile.gpu").write_text(gpu_dockerfile((folder / "Dockerfile").read_text()))


if __name__ == "__main__":
    main()
