"""Video super-resolution in JAX: the published systems on shared layers.

    import jaxvsr

    model = jaxvsr.models.create("basicvsr")
    variables = jaxvsr.weights.from_file("basicvsr", "official.pth")
    sr = jaxvsr.upscale.upscale(frames, model, variables)
    jaxvsr.metrics.psnr(sr, gt)

These modules are imported when they are first used.
"""

import importlib
import types

__version__ = "0.2.0.dev0"
__all__ = ["data", "layers", "metrics", "models", "presets", "upscale", "weights"]


def __getattr__(name: str) -> types.ModuleType:
    if name not in __all__:
        raise AttributeError(f"module 'jaxvsr' has no attribute {name!r}")
    return importlib.import_module(f"jaxvsr.{name}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
