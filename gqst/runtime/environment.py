"""Description of what a run uses: versions and devices."""

import importlib.metadata
import platform
from typing import Any

import jax

_PACKAGES = ("gqst", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "dm-pix", "numpy", "pillow")


def describe() -> dict[str, Any]:
    """Returns versions by package, and Python, system, devices and processes, as JSON can hold them."""
    devices = jax.devices()
    return {
        **{name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "processes": jax.process_count(),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
