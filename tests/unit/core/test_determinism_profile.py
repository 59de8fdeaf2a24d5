"""The pinned settings: their values, contradictions, and that the images set the same ones."""

import pytest

from samebits.core.determinism_profile import DEFAULT_THREADS, FIXED_SETTINGS, GPU_SETTINGS, Profile, Setting
from samebits.core.errors import InputError, SettingError
from samebits.runner.determinism.settings import check_variables
from support.command import ROOT


def test_variables() -> None:
    assert Profile(threads=3).variables == {
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "KERAS_BACKEND": "tensorflow",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "ONEDNN_MAX_CPU_ISA": "DEFAULT",
        "TF_NUM_INTRAOP_THREADS": "3",
        "TF_NUM_INTEROP_THREADS": "3",
    }
    assert Profile() == Profile(name="native", threads=DEFAULT_THREADS["native"])


@pytest.mark.parametrize("threads", [-1, 0, 1025])
def test_threads_out_of_range(threads: int) -> None:
    with pytest.raises(InputError, match=f"^threads must be from 1 to 1024, not {threads}$"):
        Profile(threads=threads)


@pytest.mark.parametrize("name", ["", "Native", "fast"])
def test_unknown_profiles(name: str) -> None:
    with pytest.raises(InputError, match=f"^unknown profile '{name}'; choose one of: native, portable$"):
        Profile(name=name)


def test_a_matching_environment() -> None:
    profile = Profile(threads=1024)
    profile.check({}, "your environment")
    profile.check({**profile.variables, "HOME": "/", "OMP_NUM_THREADS": "7"}, "your environment")


@pytest.mark.parametrize(
    ("name", "found", "message"),
    [
        (
            "TF_ENABLE_ONEDNN_OPTS",
            "0",
            (
                "the script sets TF_ENABLE_ONEDNN_OPTS=0, but the native profile needs TF_ENABLE_ONEDNN_OPTS=1"
                " (its default depends on the CPU and changes bits); remove it"
            ),
        ),
        (
            "TF_NUM_INTEROP_THREADS",
            "02",
            (
                "the script sets TF_NUM_INTEROP_THREADS=02, but the native profile needs TF_NUM_INTEROP_THREADS=2"
                " (the default is the machine's number of cores); use --threads"
            ),
        ),
        (
            "OPENBLAS_NUM_THREADS",
            "",
            (
                "the script sets OPENBLAS_NUM_THREADS=, but the native profile needs OPENBLAS_NUM_THREADS=1"
                " (NumPy's matrix products depend on the number of threads); remove it"
            ),
        ),
    ],
)
def test_a_contradicting_environment(name: str, found: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        Profile().check({**Profile().variables, name: found}, "the script")
    assert str(caught.value) == message


@pytest.mark.parametrize("setting", Profile().settings, ids=lambda setting: setting.name)
def test_no_setting_goes_unchecked(setting: Setting) -> None:
    with pytest.raises(SettingError, match=f"^the image sets {setting.name}=other, "):
        Profile().check({setting.name: "other"}, "the image")


def _image_variables(dockerfile: str) -> dict[str, str]:
    lines = (ROOT / dockerfile).read_text().replace("\\\n", " ").splitlines()
    return dict(pair.split("=", 1) for line in lines if line.startswith("ENV ") for pair in line.split()[1:])


@pytest.mark.parametrize(
    ("dockerfile", "device", "settings"),
    [("Dockerfile", "cpu", FIXED_SETTINGS), ("Dockerfile.gpu", "gpu", FIXED_SETTINGS + GPU_SETTINGS)],
)
def test_the_images_set_their_settings(dockerfile: str, device: str, settings: tuple[Setting, ...]) -> None:
    baked = _image_variables(dockerfile)
    known = Profile(device="gpu").variables
    assert {name: value for name, value in baked.items() if name in known} == {
        setting.name: setting.value for setting in settings
    }
    of_a_run = {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "ONEDNN_MAX_CPU_ISA"}
    assert Profile(device=device).variables.keys() - of_a_run == {setting.name for setting in settings}
    check_variables({**Profile(device=device).variables, **baked}, Profile(device=device))


@pytest.mark.parametrize(
    "name",
    [
        "DNNL_MAX_CPU_ISA",
        "MKL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_CORETYPE",
        "NPY_DISABLE_CPU_FEATURES",
        "TF_DISABLE_MKL",
        "TF_XLA_FLAGS",
        "XLA_PYTHON_CLIENT_PREALLOCATE",
        "KERAS_FLOATX",
        "CUDNN_LOGINFO_DBG",
        "CUBLAS_LOGINFO_DBG",
        "BLIS_NUM_THREADS",
        "TF_",
    ],
)
def test_unknown_variables_that_may_change_bits(name: str) -> None:
    with pytest.raises(SettingError) as caught:
        check_variables({**Profile().variables, name: "7"}, Profile())
    assert str(caught.value) == (
        f"the environment sets {name}=7, which may change bits and is part of no recipe; remove it, or set it in the"
        " script"
    )


def test_harmless_variables() -> None:
    harmless = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_CPP_MAX_VLOG_LEVEL": "1",
        "KERAS_HOME": "/x",
        "PATH": "/bin",
        "HOME": "/",
    }
    check_variables(
        {**Profile(device="gpu", threads=9).variables, **harmless, "MY_TF_FLAG": "1", "omp_x": "1"},
        Profile(device="gpu", threads=9),
    )
