"""Memory traffic of transformer blocks on a GPU, with attention in its plain form and by cuDNN.

    pip install 'jaxvsr[cuda-compile]'                      # no GPU is needed
    JAX_PLATFORMS=cpu python -m benchmarks.attention        # all blocks
    JAX_PLATFORMS=cpu python -m benchmarks.attention vrt    # names that start so

Compiles single blocks in bfloat16 ahead of time and counts as `jaxvsr profile --topology` does:
inference of 180x320 pixels (VRT's 16 frames are padded to 184x320), and the forward and backward
pass of 64x64. Blocks are shifted. Prints a Markdown table.
"""

from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.common import make_parser
from jaxvsr.distributed.mesh import make_mesh, placed
from jaxvsr.evaluation.markdown import markdown
from jaxvsr.layers import cudnn
from jaxvsr.layers.transformer import WindowBlock
from jaxvsr.layers.window_transformer import neighbor_windows
from jaxvsr.models.iiavsr import IIABlock
from jaxvsr.models.psrt import PSRTBlock
from jaxvsr.models.rvrt import SwinBlock
from jaxvsr.profiling.topologies import Fit, compile_for, devices

DTYPE = jnp.bfloat16
WINDOW = (3, 8, 8)  # of the recurrent networks
# Name -> module for (train), clips and frames in inference and in training, channels.
BLOCKS: dict[str, tuple[Callable[[bool], nn.Module], tuple[int, int], tuple[int, int], int]] = {
    "IIA-VSR, MIA-VSR": (lambda train: recurrent(IIABlock, train), (1, 1), (8, 1), 120),
    "PSRT": (lambda train: recurrent(PSRTBlock, train), (1, 3), (8, 3), 120),
    "VRT, 2 frames, mutual": (lambda _: window((2, 8, 8), mutual=True), (1, 16), (1, 16), 120),
    "VRT, 6 frames": (lambda _: window((6, 8, 8)), (1, 16), (1, 16), 120),
    "VRT, 6 frames, reconstruction": (lambda _: window((6, 8, 8)), (1, 16), (1, 16), 180),
    "VRT, 1 frame, reconstruction": (lambda _: window((1, 8, 8)), (1, 16), (1, 16), 180),
    "RVRT, extraction": (lambda _: window((1, 8, 8), SwinBlock), (16, 1), (16, 1), 144),
    "RVRT, branch": (lambda _: window((2, 8, 8), SwinBlock), (1, 2), (8, 2), 144),
}


def recurrent(block: type[nn.Module], train: bool) -> nn.Module:
    """A shifted block of the recurrent networks, without a kernel of the whole block."""
    fields = {"num_heads": 6, "mlp_ratio": 2.0, "dtype": DTYPE, "attention": "plain"}
    return block(window_size=WINDOW, shifted=True, train=train, **fields)


def window(size: tuple[int, int, int], block: Any = WindowBlock, **fields: Any) -> nn.Module:
    """A shifted block of VRT or RVRT."""
    return block(num_heads=6, window_size=size, shifted=True, dtype=DTYPE, **fields)


def compile_block(name: str, train: bool, mesh: jax.sharding.Mesh) -> Fit:
    """Compiles a block's inference, or its forward and backward pass."""
    make, inference, training, dim = BLOCKS[name]
    module, (clips, frames) = make(train), training if train else inference
    size = (64, 64) if train else (184 if name.startswith("VRT") else 180, 320)
    args: list[Any] = [jax.ShapeDtypeStruct((clips, frames, *size, dim), DTYPE)]
    if isinstance(module, IIABlock):
        others = jax.ShapeDtypeStruct((clips, 2, *size, dim), DTYPE)
        args.append(jax.eval_shape(lambda x: neighbor_windows(x, WINDOW, DTYPE), others))

    def gradients(*args: Any) -> Any:
        out, backward = jax.vjp(module.apply, *args)
        return backward(jax.lax.optimization_barrier(out))

    args = [jax.eval_shape(module.init, jax.random.key(0), *args), *args]
    function = jax.jit(gradients if train else module.apply)
    return compile_for(function.trace(*placed(args, mesh)), mesh)


def cells(fit: Fit) -> list[str]:
    """Traffic, temporaries and kernels."""
    assert fit.traffic
    megabytes = f"{fit.traffic.memory / 1e6:,.0f}", f"{fit.temporaries / 2**20:,.0f}"
    return [*megabytes, str(fit.traffic.launched)]


def main(argv: Sequence[str] | None = None) -> None:
    """Compiles the blocks and prints a table."""
    parser = make_parser("attention", __doc__)
    parser.add_argument("names", nargs="*", default=[""], help="starts of names of blocks")
    parser.add_argument("--topology", default="h100", help="a GPU of `jaxvsr profile`")
    options = parser.parse_args(argv)
    mesh = make_mesh(devices(options.topology))
    rows = []
    starts = tuple(name.lower() for name in options.names)
    for name in BLOCKS:
        if name.lower().startswith(starts):
            for train in (False, True):
                with mock.patch.object(cudnn, "takes", return_value=False):
                    plain = compile_block(name, train, mesh)
                jax.clear_caches()  # of functions traced in the other form
                fused = compile_block(name, train, mesh)
                jax.clear_caches()
                purpose = "training" if train else "inference"
                both = zip(cells(plain), cells(fused), strict=True)
                rows.append([name, purpose, *(f"{before} -> {after}" for before, after in both)])
    heads = ["block", "purpose", "traffic (MB)", "temporaries (MiB)", "kernels"]
    print(markdown(heads, rows))


if __name__ == "__main__":
    main()
