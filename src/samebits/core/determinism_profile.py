"""The determinism settings that a run requests. The runner applies them and reads each one back.

`native` gives the same bits on the same class of machine; `portable` on every CPU with the x86-64-v3 instructions,
within the limits in docs/limits.md. Environment variables must be set before the interpreter or a library starts: the
image and the launchers set them.

Sources: oneDNN's default depends on the CPU (TensorFlow's `port.cc`). Measured with TensorFlow 2.21 and NumPy 2.4: bits
depend on the sizes of the thread pools, on OpenBLAS's threads and on each library's instructions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from samebits.core.errors import InputError, SettingError
from samebits.core.trial import Trial

NATIVE = "native"
PORTABLE = "portable"

DEFAULT_THREADS = {NATIVE: 2, PORTABLE: 1}
"""The number of threads of each profile. Bits depend on it, so it must not depend on the machine.

Native has two, because every machine has two."""

PORTABLE_THREADS = (1, 2, 4)
"""The numbers of threads that the portable profile is proven for. Each has its own bits."""

PROFILES = tuple(DEFAULT_THREADS)

PORTABLE_INSTRUCTIONS = "x86-64-v3"
"""AVX2 and FMA: the portable profile limits every library to them, and libm's FMA variants need them."""

PORTABLE_PACKAGES = ("keras", "ml-dtypes", "numpy", "opt-einsum", "optree", "tensorflow")
"""The packages that compute. The portable profile is proven for one version of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One environment variable, its required value, and the reason."""

    name: str
    value: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """A named set of settings; `threads` is the size of TensorFlow's intra-op and inter-op pools.

    A trial may change `hash_seed`, and drop the settings in `without`.
    """

    name: str = NATIVE
    threads: int = DEFAULT_THREADS[NATIVE]
    device: str = "cpu"
    hash_seed: str = "0"
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in PROFILES:
            raise InputError(f"unknown profile {self.name!r}; choose one of: {', '.join(PROFILES)}")
        if not 1 <= self.threads <= 1024:
            raise InputError(f"threads must be from 1 to 1024, not {self.threads}")
        if self.portable and self.threads not in PORTABLE_THREADS:
            raise InputError(
                f"the portable profile is proven for 1, 2 and 4 threads, not {self.threads}; choose one of them"
            )
        if self.portable and self.device == "gpu":
            raise InputError("the portable profile is for CPUs; drop --gpus, or use the native profile")

    @property
    def portable(self) -> bool:
        """Whether other CPUs must compute the same bits."""
        return self.name == PORTABLE

    def in_trial(self, trial: Trial) -> "Profile":
        """The profile as changed by a trial."""
        return replace(self, hash_seed=trial.hash_seed, without=trial.without)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All environment settings in force; those that an option changes come last."""
        return tuple(setting for setting in self._all_settings() if self.has(setting.name))

    def has(self, setting: str) -> bool:
        """Whether a setting (an environment variable, or one of `trial.IN_PROCESS`) is in force."""
        return setting not in self.without

    def _all_settings(self) -> Iterator[Setting]:
        for setting in FIXED_SETTINGS:
            # A trial may perturb the hash seed.
            yield setting if setting.name != "PYTHONHASHSEED" else replace(setting, value=self.hash_seed)
        yield from PORTABLE_SETTINGS if self.portable else NATIVE_SETTINGS
        yield from GPU_SETTINGS if self.device == "gpu" else ()
        threads = str(self.threads)
        yield Setting(name="TF_NUM_INTRAOP_THREADS", value=threads, why="bits depend on the size of this pool")
        yield Setting(name="TF_NUM_INTEROP_THREADS", value=threads, why="the default is the machine's number of cores")

    @property
    def variables(self) -> dict[str, str]:
        """The settings as environment variables."""
        return {setting.name: setting.value for setting in self.settings}

    @property
    def unset(self) -> tuple[str, ...]:
        """The variables to remove from the environment, although the image sets them."""
        return tuple(setting.name for setting in self._all_settings() if not self.has(setting.name))

    def check(self, environment: Mapping[str, str], source: str) -> None:
        """Raise SettingError if `environment` has another value for a setting; `source` names it in the message."""
        for setting in self.settings:
            # A missing variable is no contradiction: the launcher sets it.
            found = environment.get(setting.name, setting.value)
            if found != setting.value:
                raise contradiction(setting, found, source, self.name)


def make_profile(name: str, threads: int | None = None, device: str = "cpu") -> Profile:
    """A profile; `threads` defaults to the profile's number. Raises InputError for an invalid combination."""
    # An unknown name must reach Profile, which reports it.
    return Profile(name=name, threads=DEFAULT_THREADS.get(name, 1) if threads is None else threads, device=device)


def contradiction(setting: Setting, found: str, source: str, profile: str) -> SettingError:
    """The error for a setting with another value: it names both values and the reason."""
    # Only the sizes of TensorFlow's pools follow an option.
    hint = "use --threads" if "THREADS" in setting.name and "TF_" in setting.name else "remove it"
    return SettingError(
        f"{source} sets {setting.name}={found}, but the {profile} profile needs {setting.name}={setting.value}"
        f" ({setting.why}); {hint}"
    )


FIXED_SETTINGS = (
    Setting(name="PYTHONHASHSEED", value="0", why="it decides hash() and the order of sets"),
    Setting(name="PYTHONNOUSERSITE", value="1", why="packages outside the lock must stay invisible"),
    Setting(name="TF_ENABLE_ONEDNN_OPTS", value="1", why="its default depends on the CPU and changes bits"),
    Setting(name="OPENBLAS_NUM_THREADS", value="1", why="NumPy's matrix products depend on the number of threads"),
    Setting(name="KERAS_BACKEND", value="tensorflow", why="other backends compute other bits"),
    Setting(name="LC_ALL", value="C.UTF-8", why="sorting and text decoding depend on the locale"),
    Setting(name="TZ", value="UTC", why="dates depend on the time zone"),
)
"""The settings of every run. The image sets exactly these, which a test checks."""

NATIVE_SETTINGS = (Setting(name="ONEDNN_MAX_CPU_ISA", value="DEFAULT", why="use the best instructions of the CPU"),)
"""The settings of the native profile only."""

PORTABLE_SETTINGS = (
    Setting(name="ONEDNN_MAX_CPU_ISA", value="AVX2", why="oneDNN would use other kernels on other CPUs"),
    Setting(
        name="NPY_DISABLE_CPU_FEATURES",
        value="X86_V4,AVX512_ICL,AVX512_SPR",
        why="NumPy computes other bits with AVX-512",
    ),
    Setting(name="OPENBLAS_CORETYPE", value="Haswell", why="OpenBLAS would use other kernels on other CPUs"),
)
"""The environment settings of the portable profile only. The runner also sets graph rewrites and exact operations."""

GPU_SETTINGS = (
    Setting(name="NVIDIA_TF32_OVERRIDE", value="0", why="TF32 keeps 10 of the 23 mantissa bits of a float32"),
    Setting(
        name="CUBLAS_WORKSPACE_CONFIG",
        value=":4096:8",
        why="on several streams cuBLAS would choose a workspace, and so an order, per call",
    ),
    Setting(
        name="XLA_FLAGS",
        value="--xla_gpu_deterministic_ops=true",
        why="XLA would choose nondeterministic kernels on GPUs",
    ),
)
"""The additional settings on a GPU; the GPU image sets them. Op determinism controls cuDNN's choice."""
