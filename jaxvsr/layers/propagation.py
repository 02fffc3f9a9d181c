"""Second-order grid propagation: a recurrence over frames, forward or backward, as a scan.

Source: Chan et al., "BasicVSR++", section 3.1.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvsr.layers.warp import flow_warp

# Branches of grid propagation, in order: each refines the output of the one before.
BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")


def first_order_flows(
    flows: Float[Array, "b t h w 2"], reverse: bool
) -> Float[Array, "b t+1 h w 2"]:
    """Flows from each frame to the previous one in the order of the recurrence.

    Args:
        flows: between neighboring frames: from frame i to i-1 at index i-1 or, if `reverse`, from
            frame i to i+1 at index i.
        reverse: whether the recurrence runs from the last frame to the first.

    Returns:
        The flow of each frame; zero for the first one of the recurrence.
    """
    b, _, h, w, _ = flows.shape
    none = jnp.zeros_like(flows, shape=(b, 1, h, w, 2))
    return jnp.concatenate([flows, none] if reverse else [none, flows], axis=1)


def second_order_flows(
    flows: Float[Array, "b t h w 2"], reverse: bool
) -> tuple[Float[Array, "b t+1 h w 2"], Float[Array, "b t+1 h w 2"]]:
    """Flows from each frame to those one and two steps before in the order of the recurrence.

    Args:
        flows, reverse: as in `first_order_flows`.

    Returns:
        (flow_n1, flow_n2) of each frame; undefined where there is no such earlier frame.
    """
    flow_n1 = first_order_flows(flows, reverse)
    b, t, h, w, _ = flow_n1.shape
    before = jnp.roll(flow_n1, -1 if reverse else 1, axis=1)
    merged = (b * t, h, w, 2)
    beyond = flow_warp(before.reshape(merged), flow_n1.reshape(merged))
    return flow_n1, flow_n1 + beyond.reshape(flow_n1.shape)


def scan_frames(
    cell: nn.Module,
    carry: Any,
    inputs: Any,
    *,
    reverse: bool = False,
    unroll: int = 1,
    **settings: Any,
) -> tuple[Any, Any]:
    """Runs `cell(carry, step, input) -> (carry, output)` over the frames of clips.

    Clips are the first axis and time is the second everywhere but inside the loop. Operations on
    all frames at once merge these two axes, and in this order the merged axis stays sharded by
    clips. Values that the cell sows into "aux" are stacked along a new first axis, in frame order.
    Its moving statistics ("batch_stats") are carried from frame to frame.

    Args:
        cell: a module. All frames share its parameters and what was computed from them ("tables");
            each has fresh "gumbel" and "droppath" rngs.
        carry: the state before the first frame.
        inputs: a tree of arrays (b, t, ...). The cell gets (b, ...), and the number of earlier
            frames as () int32.
        reverse: whether the last frame comes first.
        unroll: frames per iteration of the compiled loop.
        **settings: keyword arguments of every call of the cell.

    Returns:
        The last carry, and the tree of outputs (b, t, ...), in frame order.
    """
    moving = cell.is_mutable_collection("batch_stats")
    scan = nn.scan(
        lambda cell, carry, x: cell(carry, *x, **settings),
        variable_broadcast=["params", "tables", *([] if moving else ["batch_stats"])],
        variable_carry="batch_stats" if moving else False,
        variable_axes={"aux": 0},
        split_rngs={"params": False, "gumbel": True, "droppath": True},
        reverse=reverse,
        unroll=unroll,
    )
    inputs = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), inputs)
    steps = jnp.arange(jax.tree.leaves(inputs)[0].shape[0])
    carry, outputs = scan(cell, carry, (steps[::-1] if reverse else steps, inputs))
    return carry, jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), outputs)


def frame_by_frame(
    module: nn.Module, x: Float[Array, "b t *in"], train: bool
) -> Float[Array, "b t *out"]:
    """Applies a module to each frame independently.

    Args:
        module: of arrays (n, ...), with the same parameters for all frames.
        x: the frames.
        train: whether all frames are computed at once, since small crops fill a device only
            together. Otherwise they are computed one after the other, with the activations of one
            frame in memory.

    Returns:
        The module's output for each frame.
    """
    if train:
        y = module(x.reshape(-1, *x.shape[2:]))
        return y.reshape(*x.shape[:2], *y.shape[1:])
    scan = nn.scan(
        lambda module, carry, x: (carry, module(x)),
        variable_broadcast="params",
        split_rngs={"params": False},
        in_axes=1,
        out_axes=1,
    )
    return scan(module, None, x)[1]
