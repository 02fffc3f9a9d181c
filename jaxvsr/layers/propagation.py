"""Second-order grid propagation: a recurrence over the frames of a clip, either way, as a scan.

Source: Chan et al., "BasicVSR++", section 3.1.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvsr.layers.warp import flow_warp


def first_order_flows(flows: jax.Array, reverse: bool) -> jax.Array:
    """Flows from each frame to the one that the recurrence met before it.

    Args:
        flows: (b, t-1, h, w, 2), between neighbours: from frame i to i-1 at i-1 or, if `reverse`,
            from frame i to i+1 at i.
        reverse: whether the recurrence runs from the last frame to the first.

    Returns:
        (b, t, h, w, 2) at the frame that they start from; zero at the one met first.
    """
    b, _, h, w, _ = flows.shape
    none = jnp.zeros_like(flows, shape=(b, 1, h, w, 2))
    return jnp.concatenate([flows, none] if reverse else [none, flows], axis=1)


def second_order_flows(flows: jax.Array, reverse: bool) -> tuple[jax.Array, jax.Array]:
    """Flows from each frame to the one and to the two that the recurrence met before it.

    Args:
        flows, reverse: as first_order_flows'.

    Returns:
        (flow_n1, flow_n2), each (b, t, h, w, 2) at the frame that they start from; meaningless
        where the recurrence has met no such frame.
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

    Clips lead and time comes second everywhere but inside the loop: what is done for all frames at
    once merges the two axes, and merged in this order they stay divided among devices by clips.
    What the cell sows into "aux" is stacked along a new first axis, in the order of the frames;
    its moving statistics ("batch_stats") go on from frame to frame.

    Args:
        cell: a module; one set of parameters for all frames, fresh "gumbel" and "droppath" rngs.
        carry: the state before the first frame that is met.
        inputs: a tree of arrays (b, t, ...); the cell gets (b, ...), and () int32, how many
            frames it has met.
        reverse: whether the last frame is met first.
        unroll: how many frames are compiled into one turn of the loop.
        **settings: of every call of the cell.

    Returns:
        The last carry, and the tree of outputs (b, t, ...), in the order of the frames.
    """
    moving = cell.is_mutable_collection("batch_stats")
    scan = nn.scan(
        lambda cell, carry, x: cell(carry, *x, **settings),
        variable_broadcast="params" if moving else ["params", "batch_stats"],
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


def frame_by_frame(module: nn.Module, x: jax.Array, train: bool) -> jax.Array:
    """`module(x)` of frames that do not meet.

    Args:
        module: of arrays (n, ...), one set of parameters.
        x: (b, t, ...).
        train: whether all frames are computed at once, since small crops fill a device only
            together. Else one after the other: activations are those of one frame.

    Returns:
        (b, t, ...).
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
