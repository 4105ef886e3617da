"""Flags of XLA with which programs compile fast and run slowly."""

from importlib import metadata


def fast_compiling(devices: int) -> str:
    """The value of XLA_FLAGS for so many CPU devices."""
    flags = [
        f"--xla_force_host_platform_device_count={devices}",
        "--xla_backend_optimization_level=0",
    ]
    if metadata.version("jaxlib").startswith("0.10."):  # later ones abort when given this flag
        flags.append("--xla_cpu_use_fusion_emitters=false")
    return " ".join(flags)
