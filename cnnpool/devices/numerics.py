"""Settings of JAX and Flax that change numerical results, and the values cnnpool requires.

JAX and Flax also read them from environment variables (JAX_ENABLE_X64, JAX_DEFAULT_PRNG_IMPL, ...),
which users may have set for other programs. cnnpool's commands set the required values when they
start (`settle`). Its library functions do not change a user's settings: those that train, measure
or predict raise an error if a value differs (`check_settings`).
"""

from collections.abc import Mapping
import contextlib
import os
import sys
from typing import Any

import jax

# The settings behind all published networks and measurements: defaults of JAX 0.10 and Flax 0.12.
_SETTINGS: dict[Any, dict[str, Any]] = {
    jax.config: {
        "jax_enable_x64": False,
        "jax_default_prng_impl": "threefry2x32",
        "jax_threefry_partitionable": True,
        "jax_random_seed_offset": 0,
        "jax_default_matmul_precision": None,
        "jax_numpy_dtype_promotion": "standard",
        "jax_allow_f16_reductions": True,
        "jax_softmax_custom_jvp": False,
    }
}
with contextlib.suppress(ModuleNotFoundError):  # functions can be measured without Flax
    from flax.configurations import config as flax_config

    _SETTINGS[flax_config] = {
        "flax_fix_rng_separator": False,
        "flax_return_frozendict": False,
    }
# Debugging options of JAX that make correct programs fail: JAX_TRANSFER_GUARD=disallow, any that
# moves arrays between host and devices; JAX_DEBUG_NANS, any whose network diverges.
_SWITCHES: dict[str, Any] = {
    "jax_transfer_guard": "allow",
    "jax_transfer_guard_host_to_device": "allow",
    "jax_transfer_guard_device_to_device": "allow",
    "jax_transfer_guard_device_to_host": "allow",
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_no_tracing": False,
    "jax_array_garbage_collection_guard": "allow",
}
_HARMLESS = (None, False, "allow", "log", "log_explicit")  # values of these options
# Read by XLA itself, and not only for numerical settings: these are recorded and compared.
_RECORDED = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "JAX_DISABLE_JIT")
_OF_NO_NUMBER = ("--xla_force_host_platform_device_count", "--xla_dump", "--xla_gpu_cuda_data_dir")


def settle() -> None:
    """Sets all required values, and prints which environment variables this overrides.

    For commands. Call it before the first JAX computation.
    """
    for config, name, ours, _ in _others():
        if name.upper() in os.environ:
            _say(f"{_given(name)} is ignored, because it would change results; using {ours}")
        config.update(name, ours)
    _settle_switches()


def _settle_switches() -> None:
    strict = {
        name: ours
        for name, ours in _SWITCHES.items()
        if getattr(jax.config, name, None) not in _HARMLESS
    }
    for name, ours in strict.items():
        if name.upper() in os.environ:
            _say(
                f"{_given(name)} is ignored, because it would end this program; it is for debugging"
            )
        jax.config.update(name, ours)
    if getattr(jax.config, "jax_disable_jit", False):
        _say(f"{_given('jax_disable_jit')}: nothing is compiled, so everything takes far longer")


def _given(name: str) -> str:
    """A variable of the environment and its value."""
    return f"{name.upper()}={os.environ.get(name.upper())}"


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def check_settings() -> None:
    """Raises ValueError if a setting differs from the required value. For library functions."""
    if others := _others():
        found = ", ".join(f"{name} is {theirs}, not {ours}" for _, name, ours, theirs in others)
        raise ValueError(
            f"settings of JAX or Flax would change the results: {found}. Call "
            "cnnpool.devices.numerics.settle() before the first JAX computation, or leave these "
            "settings, and environment variables of the same names, at their defaults"
        )


def environment() -> dict[str, str]:
    """The environment variables that are set and may change how numbers are rounded."""
    found = {}
    for name in _RECORDED:
        words = os.environ.get(name, "").split()
        if kept := " ".join(word for word in words if not word.startswith(_OF_NO_NUMBER)):
            found[name] = kept
    return found


def recorded(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of what identifies a measurement, with `environment()` added unless it is empty."""
    found = environment()
    return {**record, "environment": found} if found else dict(record)


def _others() -> list[tuple[Any, str, Any, Any]]:
    """Settings that differ, as (config, name, ours, theirs); those a version lacks are skipped."""
    return [
        (config, name, ours, theirs)
        for config, settings in _SETTINGS.items()
        for name, ours in settings.items()
        if _plain(theirs := getattr(config, name, ours)) != ours
    ]


def _plain(value: Any) -> Any:
    """A setting's value as in an environment variable, where JAX returns an enum."""
    return getattr(value, "value", value)
