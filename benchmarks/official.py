"""The official PyTorch code of the networks, imported from a folder of its repositories.

A repository is a folder that is called as on GitHub: MIA-VSR (LabShuHangGU), RethinkVSRAlignment
(XPixelGroup; PSRT), VRT (JingyunLiang) and BasicSR (XPixelGroup), without which the installed
`basicsr` is imported. Needs torch, torchvision (its `deform_conv2d`) and einops, not JAX. What the
code imports without computing with it has stand-ins: timm, tensorboardX, torch._six and logging.

`benchmarks.cpu` runs this module as a process, which computes a clip whenever it is asked to.
"""

import importlib
import importlib.util
import json
import math
import os
import pathlib
import sys
import time
import types
from collections.abc import Mapping
from typing import Any
from unittest import mock

# The fields in which a recipe differs from the class, as in the authors' option files and scripts.
THIRTY = {"num_block": 30}
FOUR = {"depths": (6,) * 4, "num_heads": (6,) * 4}
TWELVE = {"deformable_groups": 12}
THREE = {"depths": (6,) * 3, "num_heads": (6,) * 3, "window_size": [3, 8, 8]}  # not a tuple
# Network: folder of its package, module, class, fields.
NETWORKS: Mapping[str, tuple[str, str, str, Mapping[str, Any]]] = {
    "basicvsr": ("BasicSR/basicsr", "archs.basicvsr_arch", "BasicVSR", THIRTY),
    "iconvsr": ("BasicSR/basicsr", "archs.basicvsr_arch", "IconVSR", THIRTY),
    "basicvsrpp": ("BasicSR/basicsr", "archs.basicvsrpp_arch", "BasicVSRPlusPlus", {}),
    "miavsr": ("MIA-VSR/archs", "mia_vsr_arch", "MIAVSR", FOUR),
    "psrt": ("RethinkVSRAlignment/archs", "psrt_recurrent_arch", "BasicRecurrentSwin", THREE),
    "vrt": ("VRT/models", "network_vrt", "VRT", TWELVE),
}


def create(folder: pathlib.Path, name: str, **fields: Any) -> Any:
    """Creates an official network, on the CPU.

    Args:
        folder: of the repositories.
        name: a key of NETWORKS.
        **fields: arguments of the official class.

    Returns:
        The `torch.nn.Module`; it maps (b, t, 3, h, w) to such clips, or to a tuple of them and
        other results.
    """
    import torch
    import torchvision  # noqa: F401  before CUDA is claimed

    _prepare(folder)
    place, module, kind, recipe = NETWORKS[name]
    package = "basicsr" if place.startswith("BasicSR") else f"official_{name}"
    _package(package, folder / place)
    network = getattr(importlib.import_module(f"{package}.{module}"), kind)
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda tensor, *_, **__: tensor  # MIA-VSR's masks are put there
    # Without CUDA the classes leave out their alignment.
    with mock.patch.object(torch.cuda, "is_available", return_value=True):
        return network(**{**recipe, **fields})


def _prepare(folder: pathlib.Path) -> None:
    """Makes `basicsr` and what it and the others import importable."""
    import torch

    basicsr = folder / "BasicSR" / "basicsr"
    if not basicsr.is_dir():
        installed = importlib.util.find_spec("basicsr")
        if not installed or not installed.submodule_search_locations:
            raise ImportError(f"{folder} has no folder BasicSR, and basicsr is not installed")
        basicsr = pathlib.Path(installed.submodule_search_locations[0])
    _package("basicsr", basicsr)
    _package("basicsr.archs", basicsr / "archs")
    _package("basicsr.utils", basicsr / "utils", get_root_logger=None)
    for name, contents in {
        "timm": {},
        "timm.models": {},
        "timm.models.layers": {"trunc_normal_": torch.nn.init.trunc_normal_},
        "timm.utils": {"get_state_dict": None},
        "tensorboardX": {"SummaryWriter": None},
        "torch._six": {"inf": math.inf},
    }.items():
        _package(name, None, **contents)


def _package(name: str, folder: pathlib.Path | None, **contents: Any) -> None:
    """Registers a package whose `__init__.py` is not run, since it imports everything."""
    if name not in sys.modules:
        module = types.ModuleType(name)
        module.__path__ = [str(folder)] if folder else []
        vars(module).update(contents)
        sys.modules[name] = module


def serve(folder: pathlib.Path, name: str, fields: Mapping[str, Any], work: pathlib.Path) -> None:
    """Computes a clip once, then again for each line of the standard input.

    Weights are random. The first line of the standard output is JSON: "torch", the version;
    "threads"; "kept", the fraction of tokens that masks keep. Each later one is a call's seconds.

    Args:
        folder, name, fields: as for `create`.
        work: holds the clip `lq.npy` (1, t, h, w, 3) float32, and receives `official.npz`: the
            output "sr" (1, t, h', w', 3), and "weights/<official name>".
    """
    import numpy as np
    import torch

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever the official code prints is no answer
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    network = create(folder, name, **fields).eval()
    for parameter in network.parameters():
        if not parameter.any():  # offsets and biases that start at zero would compute too little
            torch.nn.init.normal_(parameter, std=0.02)
    lq = torch.from_numpy(np.load(work / "lq.npy")).permute(0, 1, 4, 2, 3).contiguous()
    kept: dict[Any, list[float]] = {
        module: [] for module in network.modules() if hasattr(module, "predmask")
    }
    hooks = [
        module.register_forward_hook(lambda module, *_: kept[module].append(float(module.ratio_k)))
        for module in kept
    ]
    with torch.no_grad():
        sr = network(lq)
        for hook in hooks:
            hook.remove()
        arrays = {f"weights/{key}": x.numpy() for key, x in network.state_dict().items()}
        sr = sr[0] if isinstance(sr, tuple) else sr
        np.savez(work / "official.npz", sr=sr.permute(0, 1, 3, 4, 2).numpy(), **arrays)
        later = [ratio for ratios in kept.values() for ratio in ratios[1:]]  # the first keeps all
        facts = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        print(json.dumps(facts | {"kept": float(np.mean(later or 1))}), file=answers)
        for _ in sys.stdin:
            start = time.perf_counter()
            network(lq)
            print(time.perf_counter() - start, file=answers)


if __name__ == "__main__":
    _folder, _name, _fields, _work = sys.argv[1:]
    serve(pathlib.Path(_folder), _name, json.loads(_fields), pathlib.Path(_work))
