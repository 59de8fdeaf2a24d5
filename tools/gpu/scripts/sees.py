"""What TensorFlow sees: devices, versions it was built for and loaded, and which libraries a step of training maps."""

import ctypes
import json
import os

import keras
import numpy as np
import tensorflow as tf


def loaded_version(library: str, function: str) -> int | None:
    """The version that a library names, such as 90300 for cuDNN 9.3.0; None where it is not loaded."""
    path = next((path for path in mapped() if os.path.basename(path).startswith(library)), None)
    if path is None:
        return None
    number = ctypes.c_int()
    call = getattr(ctypes.CDLL(path), function)
    if library == "libcudnn.":
        call.restype = ctypes.c_size_t
        return int(call())
    call(ctypes.byref(number))
    return number.value


def mapped() -> set[str]:
    """The libraries in this process."""
    with open("/proc/self/maps", encoding="utf-8") as lines:
        return {line.split(None, 5)[5].strip() for line in lines if ".so" in line}


def cuda_starts() -> str:
    """How the CUDA driver answers its first call."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return str(error)
    return f"cuInit returned {library.cuInit(0)}"


def train() -> list[str]:
    """Convolution, recurrent and dense layers for two steps; returns the devices of the weights."""
    model = keras.Sequential(
        [
            keras.layers.Input((16, 16, 3)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Reshape((14, 112)),
            keras.layers.LSTM(16),
            keras.layers.Dense(4),
        ]
    )
    model.compile("adam", "mse")
    model.fit(np.ones((8, 16, 16, 3), "float32"), np.ones((8, 4), "float32"), batch_size=4, verbose=0)
    return sorted({str(weight.value.device) for weight in model.weights})


first_call = cuda_starts()
gpus = tf.config.list_physical_devices("GPU")
found = {
    "first_cuda_call": first_call,
    "gpus": [dict(tf.config.experimental.get_device_details(gpu)) | {"device": gpu.name} for gpu in gpus],
    "built_for": {name: str(value) for name, value in tf.sysconfig.get_build_info().items()},
    "tensorflow": tf.__version__,
    "weights_on": train(),
    "cudnn_loaded": loaded_version("libcudnn.", "cudnnGetVersion"),
    "cuda_runtime_loaded": loaded_version("libcudart.", "cudaRuntimeGetVersion"),
    "libraries": sorted(os.path.basename(path) for path in mapped() if "nvidia" in path or "cuda" in path),
    "path": os.environ.get("LD_LIBRARY_PATH", ""),
}
if gpus:
    found["memory"] = tf.config.experimental.get_memory_info("GPU:0")
print(json.dumps(found, default=str))
