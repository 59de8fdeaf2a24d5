"""The GPU image, as far as a machine without a GPU can tell; what needs one is in test_gpu.py."""

import ast
import json
import re
import subprocess

import pytest

from samebits.core.determinism_profile import GPU_SETTINGS
from samebits.core.errors import SettingError
from samebits.host.image.build_context import CPU, GPU, context_file, cuda_lock
from samebits.host.image.lockfile import read_lock
from samebits.runner.inputs import check_device
from support.command import COMMAND, ROOT, Project


@pytest.fixture(scope="module")
def gpu_image(engine: str) -> str:
    """samebits:gpu, built where it is not there."""
    assert engine
    subprocess.run([*COMMAND, "build", "--gpu"], check=True, capture_output=True, timeout=3000)
    return GPU.tag


def _versions() -> dict[str, str]:
    return {pin.name: pin.version for pin in read_lock(context_file(GPU.lock))}


@pytest.mark.slow  # some GiB of wheels
def test_cuda_and_cudnn_are_those_that_tensorflow_was_built_for(gpu_image: str) -> None:
    program = "import tensorflow as tf; print(dict(tf.sysconfig.get_build_info()))"
    done = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", "python", gpu_image, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    built = ast.literal_eval(done.stdout)
    locked = _versions()
    assert built["is_cuda_build"]
    cuda = built["cuda_version"].split(".")[:2]
    for name in ("runtime", "cupti", "nvcc", "nvrtc"):
        assert locked[f"nvidia-cuda-{name}-cu12"].split(".")[:2] == cuda, name
    assert locked["nvidia-cudnn-cu12"].split(".")[0] == built["cudnn_version"].split(".")[0]


@pytest.mark.slow
def test_without_a_gpu_it_trains_to_the_cpu_images_result(gpu_image: str, in_docker: Project) -> None:
    cpu, gpu = in_docker.train(), in_docker.train("--image", gpu_image)
    assert gpu.status == 0, gpu.err
    assert gpu.line("result") == cpu.line("result")
    record = json.loads((in_docker.folder / gpu.run / "record.json").read_text())
    assert record["environment"]["gpu"]["gpus"] == []
    assert record["recipe"]["device"]["kind"] == "cpu"
    assert record["environment"]["cuda_built_for"].startswith("12.5")
    assert (in_docker.folder / gpu.run / "image" / "cuda" / "requirements.lock").is_file()


@pytest.mark.slow  # some GiB of wheels
def test_its_settings_are_baked_in_and_its_layers_shared(gpu_image: str) -> None:
    found = [
        json.loads(subprocess.run(["docker", "image", "inspect", tag], capture_output=True, check=True).stdout)[0]
        for tag in (CPU.tag, gpu_image)
    ]
    variables = dict(item.split("=", 1) for item in found[1]["Config"]["Env"])
    assert {item.name: variables[item.name] for item in GPU_SETTINGS} == {
        item.name: item.value for item in GPU_SETTINGS
    }
    assert variables["NVIDIA_VISIBLE_DEVICES"] == "all"
    layers = [image["RootFS"]["Layers"] for image in found]
    assert layers[0][:2] == layers[1][:2]  # base, users and folders
    assert len(layers[1]) == len(layers[0]) + 1


def test_a_new_tensorflow_does_not_move_cuda() -> None:
    lock = context_file(GPU.lock).read_text()
    assert cuda_lock(lock) == cuda_lock(re.sub(r"^tensorflow==\S+", "tensorflow==9.9.9", lock, flags=re.MULTILINE))
    assert cuda_lock(lock) != cuda_lock(lock.replace("nvidia-cudnn-cu12==9.3.0.75", "nvidia-cudnn-cu12==9.4.0.1"))
    assert {pin.name for pin in read_lock(cuda_lock(lock))} == {
        name for name in _versions() if name.startswith("nvidia-") and name.endswith("-cu12")
    }


def test_a_run_gets_the_device_of_its_recipe() -> None:
    check_device("cpu", 0)
    check_device("gpu", 1)
    with pytest.raises(SettingError, match=r"^the run needs a GPU and TensorFlow finds none; run without --gpus"):
        check_device("gpu", 0)
    with pytest.raises(SettingError, match=r"^the recipe is for a CPU and TensorFlow finds 2 GPUs; request them with"):
        check_device("cpu", 2)


def test_the_gpu_lock_holds_the_cpu_locks_versions() -> None:
    cpu = {pin.name: pin.version for pin in read_lock(context_file(CPU.lock))}
    gpu = _versions()
    assert gpu.pop("tensorflow") == cpu.pop("tensorflow-cpu")
    assert {name: gpu.get(name) for name in cpu} == cpu
    assert (ROOT / "requirements-gpu.in").is_file()
