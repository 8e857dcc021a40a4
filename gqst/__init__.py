"""Image style transfer whose quality is measured, steered and proven: GANs in JAX for CPU, GPU and TPU."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gqst.inference.generator import load_generator

__version__ = "0.1.0"
__all__ = ["load_generator"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import gqst` and the --help of the entry points do not wait for JAX.
    if name == "load_generator":
        from gqst.inference import generator

        return generator.load_generator
    raise AttributeError(f"module 'gqst' has no attribute {name!r}")
