"""How the block of PSRT, IIA-VSR and MIA-VSR is computed on all windows of a frame."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvsr.kernels.block_tables import BlockTables, Gate
from jaxvsr.layers import window_chunks
from jaxvsr.layers.gating import compute_kept, gate
from jaxvsr.layers.window_transformer import BlockWeights, Windows, attention, mlp, refine
from jaxvsr.layers.windows import WindowKinds


def refine_windows(
    weights: BlockWeights,
    windows: Windows,
    gates: Gate | None = None,
    *,
    clips: int,
    train: bool,
    skip: bool = False,
) -> tuple[Float[Array, "w queries c"], Float[Array, "w queries c"], Float[Array, "w queries c"]]:
    """Computes a block of all windows, in the way that suits the purpose and the device.

    Args:
        weights: of the block.
        windows: clip after clip.
        gates: which tokens are computed; None: all.
        clips: their number.
        train: whether gradients are taken: all windows at once, since in a loop over chunks devices
            would exchange the weights' gradients in each iteration. Else with folded weights.
        skip: whether the arithmetic of tokens that are not kept is skipped, outside training.

    Returns:
        The refined tokens, and the outputs of attention and MLP.
    """
    compute: Any = refine if gates is None else refine_gated
    inputs: Any = windows if gates is None else (windows, gates)
    if train:
        attn, hidden = compute(weights, inputs)
    elif gates is not None and skip:
        queries = windows.inside[:, -gates.mask.shape[1] :]  # nothing reads the outputs of padding
        kept = (gates.mask[..., 0] > 0) & queries
        attn, hidden = compute_kept(refine, weights.folded(), windows, kept, gates[1:])
    else:
        attn, hidden = window_chunks.map_chunks(compute, weights.folded(), inputs, clips=clips)
    return windows.plus(attn, hidden), attn, hidden


def refine_gated(
    weights: BlockWeights, inputs: tuple[Windows, Gate]
) -> tuple[Float[Array, "w queries c"], Float[Array, "w queries c"]]:
    """Outputs of attention and MLP, where dropped tokens take the previous frame's instead.

    Args:
        weights: of the block.
        inputs: windows, and which of their tokens are kept.

    Source: Zhou et al., "Video Super-Resolution Transformer with Masked Inter&Intra-Frame
        Attention" (MIA-VSR), equations 10 and 11.
    """
    windows, gates = inputs
    attn = gate(gates.mask, attention(weights, windows), gates.attn)
    return attn, gate(gates.mask, mlp(weights, windows, attn), gates.hidden)


def block_tables(weights: BlockWeights, kinds: WindowKinds) -> BlockTables:
    """Arranges a block's weights as kernels read them.

    Args:
        weights: of the block, with norms that are not yet folded into other layers.
        kinds: of its windows.
    """
    folded, dim = weights.folded(), weights.proj.kernel.shape[0]
    query, key, value = jnp.split(folded.qkv.kernel, 3, axis=1)
    query_offset, key_bias, value_bias = jnp.split(folded.qkv.bias, 3)
    key_padding, value_padding = jnp.split(weights.qkv.bias[dim:], 2)
    inside = jnp.asarray(kinds.inside)[..., None]
    scale = (dim // weights.bias.shape[0]) ** -0.5
    regions = jnp.asarray(kinds.regions)
    allowed = regions[:, -weights.bias.shape[1] :, None] == regions[:, None, :]
    return BlockTables(
        query=query * scale,
        query_offset=query_offset * scale,
        key=key,
        key_offset=jnp.where(inside, key_bias, key_padding),
        value=value,
        value_offset=jnp.where(inside, value_bias, value_padding),
        logits=weights.bias + jnp.where(allowed, 0.0, -100.0)[:, None],
        proj=weights.proj.kernel,
        proj_offset=weights.proj.bias,
        fc1=folded.fc1.kernel,
        fc1_offset=folded.fc1.bias,
        fc2=weights.fc2.kernel,
        fc2_offset=weights.fc2.bias,
    )
