"""How the block of PSRT, IIA-VSR and MIA-VSR is computed on all windows of a frame."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Float32

from jaxvsr.kernels import block_tpu, block_tpu_kept, switch
from jaxvsr.kernels.block_tables import BlockTables, Gate
from jaxvsr.kernels.triton import is_target
from jaxvsr.layers import window_chunks
from jaxvsr.layers.gating import compute_kept, gate, weigh
from jaxvsr.layers.window_transformer import (
    BlockWeights,
    Windows,
    attention,
    mlp,
    refine,
    shift_size,
)
from jaxvsr.layers.windows import Size, WindowKinds, window_kinds

ATTENTION = ("auto", "plain")


def check_attention(value: str) -> None:
    """Raises ValueError unless a model's field `attention` is valid."""
    if value not in ATTENTION:
        raise ValueError(f"attention={value!r} must be 'auto' or 'plain'")


def refine_windows(
    weights: BlockWeights,
    windows: Windows,
    gates: Gate | None = None,
    *,
    shape: tuple[int, ...],
    window_size: Size,
    shifted: bool,
    train: bool,
    kernels: bool,
    tables: dict[str, Any] | None = None,
    skip: bool = False,
) -> Any:
    """Computes a block of all windows, in the way that suits the purpose and the device.

    Args:
        weights: of the block.
        windows: of `make_windows`.
        gates: which tokens are computed; None: all.
        shape: (b, q, h, w, c) of the refined frames.
        window_size: (wt, wh, ww).
        shifted: whether windows are shifted.
        train: whether gradients are taken: all windows at once, since in a loop over chunks devices
            would exchange the weights' gradients in each iteration. Else with folded weights.
        kernels: whether a kernel for the platform computes the block, where there is one.
        tables: of `prepare_tables`; without a platform's, they are computed here.
        skip: whether the arithmetic of tokens that are not kept is skipped, outside training.

    Returns:
        The refined tokens (w, queries, c). With `gates` also the values of attn and hidden for
        those of the next frame.
    """
    clips, dtype = shape[0], windows.normed.dtype
    inputs = weights, tables or {}, windows, gates

    def plain(weights: BlockWeights, tables: Any, windows: Windows, gates: Gate | None) -> Any:
        return refine_plain(weights, windows, gates, clips=clips, train=train, skip=skip)

    if train or not kernels or not isinstance(clips, int):
        return plain(*inputs)
    kinds = kinds_of(shape[2:4], window_size, shifted)
    kind = np.tile(kinds.kind, clips)

    def by_kernel(platform: str, kernel: Any) -> Any:
        def compute(
            weights: BlockWeights, tables: dict[str, Any], windows: Windows, gates: Gate | None
        ) -> Any:
            packed = tables.get(platform) or pack_tables(
                modules[platform].pack, dtype, weights, kinds
            )
            if gates is None:
                return by_devices(kernel, packed, kind, windows.x, windows.neighbors, None)
            if skip:  # nothing reads the outputs of padding
                inside = windows.inside[:, -gates.mask.shape[1] :, None]
                gates = gates._replace(mask=gates.mask * inside)
            y, added = by_devices(kernel, packed, kind, windows.x, windows.neighbors, gates)
            return y, added, gates.hidden

        return with_gradient_of(plain, compute)

    modules = kernel_modules(weights.bias, shape[-1], dtype)
    if windows.x.dtype != dtype or not modules or not can_divide(len(kind)):
        return plain(*inputs)
    branches = {}
    if "tpu" in modules:
        skipping = skip and gates is not None and windows.neighbors is not None
        on_tpu = block_tpu_kept.refine_kept if skipping else block_tpu.refine
        branches["tpu"] = by_kernel("tpu", on_tpu)
    if "cuda" in modules:
        on_gpu = functools.partial(modules["cuda"].refine, skip=skip)
        branches["cuda"] = by_kernel("cuda", on_gpu)
    return jax.lax.platform_dependent(*inputs, default=plain, **branches)


def kernel_modules(bias: jax.Array, dim: int, dtype: Any) -> dict[str, Any]:
    """Finds the kernels that compute blocks of a kind.

    Args:
        bias: (heads, queries, keys), of relative positions.
        dim: channels.
        dtype: of the computation.

    Returns:
        Modules with functions `pack` and `refine`, by platform. That for TPUs is among them on all
        platforms, since the platform is chosen at lowering; that for GPUs only on a GPU.
    """
    modules: dict[str, Any] = {}
    if block_tpu.fits(bias, dim, dtype):
        modules["tpu"] = block_tpu
    if is_target():
        from jaxvsr.kernels import block_gpu  # Triton's dialect is deprecated

        if block_gpu.fits(bias, dim, dtype):
            modules["cuda"] = block_gpu
    return modules


def prepare_tables(
    weights: BlockWeights, *, size: tuple[int, ...], window_size: Size, shifted: bool, dtype: Any
) -> dict[str, Any]:
    """Computes the tables that the platform's kernel reads, once for all frames.

    XLA does not move these small operations out of a loop over frames.

    Args:
        weights: of the block; no gradient flows to them through tables.
        size: (h, w) of frames.
        window_size: (wt, wh, ww).
        shifted: whether windows are shifted.
        dtype: of the computation.

    Returns:
        The tables by platform, for `refine_windows`; empty where no kernel computes the block.
    """
    kinds, dim = kinds_of(size, window_size, shifted), weights.proj.kernel.shape[0]
    weights = jax.lax.stop_gradient(weights)
    modules = kernel_modules(weights.bias, dim, dtype)
    used = modules.keys() & {"cuda", switch.platform()}
    return {name: pack_tables(modules[name].pack, dtype, weights, kinds) for name in used}


@functools.partial(jax.jit, static_argnums=(0, 1))
def pack_tables(function: Any, dtype: Any, weights: BlockWeights, kinds: WindowKinds) -> Any:
    """A block's tables as a kernel reads them; `function` is the kernel's `pack`."""
    return function(block_tables(weights, kinds), dtype)


def kinds_of(size: tuple[int, ...], window_size: Size, shifted: bool) -> WindowKinds:
    """The kinds of windows of frames of a size (h, w)."""
    shape = window_size[0], size[0], size[1]
    return window_kinds(shape, window_size, shift_size(window_size, shifted))


def refine_plain(
    weights: BlockWeights,
    windows: Windows,
    gates: Gate | None,
    *,
    clips: int,
    train: bool,
    skip: bool,
) -> Any:
    """Computes `refine_windows` without kernels; the arguments are the same."""
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
    refined = windows.plus(attn, hidden)
    return refined if gates is None else (refined, attn, hidden)


@jax.named_scope("predictor")
def weigh_change(
    windows: Windows,
    last: Float[Array, "w queries c"],
    scale: Float[Array, " c"],
    kernel: Float[Array, "c 1"],
    bias: Float[Array, " 1"],
    *,
    kernels: bool,
) -> tuple[Float32[Array, "w queries 1"], Float[Array, "w queries c"]]:
    """Weighs how much tokens changed since the previous frame.

    Args:
        windows: of the current frame.
        last: normalized tokens of the previous frame.
        scale: of the norm, whose bias cancels in the difference of two frames.
        kernel, bias: of `gating.weigh`.
        kernels: as in `refine_windows`.

    Returns:
        The logits, and the normalized tokens of the current frame.
    """
    _, tokens, dim = last.shape
    weights = scale, kernel, bias

    def plain(weights: Any, windows: Windows, last: jax.Array) -> Any:
        scale, kernel, bias = weights
        change = jnp.abs(scale) * jnp.abs(windows.normed - last)
        return weigh(jax.lax.stop_gradient(change), kernel, bias), windows.normed

    known = isinstance(last.shape[0], int)  # not in a program that is exported for any batch size
    if not (kernels and known and is_target() and can_divide(last.shape[0])):
        return plain(weights, windows, last)
    from jaxvsr.kernels import change_gpu

    def on_gpu(weights: Any, windows: Windows, last: jax.Array) -> Any:
        scale, kernel, bias = weights
        weight = jnp.abs(scale) * kernel[:, 0]
        logit, normed = by_devices(change_gpu.measure, weight, windows.x, last)
        return logit + bias, normed

    if windows.x.dtype != last.dtype or not change_gpu.fits(tokens, dim, last.dtype):
        return plain(weights, windows, last)
    branch = with_gradient_of(plain, on_gpu)
    return jax.lax.platform_dependent(weights, windows, last, default=plain, cuda=branch)


def with_gradient_of(plain: Any, kernel: Any) -> Any:
    """A function that is computed by `kernel` and has the derivative of `plain`."""

    def derivative(primals: Any, tangents: Any) -> Any:
        return kernel(*primals), jax.jvp(plain, primals, tangents)[1]

    function = jax.custom_jvp(kernel)
    function.defjvp(derivative)
    return function


def can_divide(windows: int) -> bool:
    """Whether the devices can each compute equally many windows.

    Without a mesh in context it is unknown which of several devices compute a function.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return jax.device_count() == 1
    return bool(mesh.manual_axes) or windows % mesh.size == 0


def by_devices(kernel: Any, tables: Any, *inputs: Any) -> Any:
    """Computes a kernel, which XLA cannot divide, of each device's windows.

    Args:
        kernel: of tables and inputs.
        tables: a tree of arrays that all windows need.
        *inputs: trees of arrays (w, ...).
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.manual_axes or mesh.size == 1:
        return kernel(tables, *inputs)
    each = PartitionSpec(mesh.axis_names)
    specs = PartitionSpec(), *[each] * len(inputs)
    return jax.shard_map(kernel, in_specs=specs, out_specs=each, check_vma=False)(tables, *inputs)


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
