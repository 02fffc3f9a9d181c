"""What the kernels of the window block read beside its windows."""

from typing import NamedTuple

from jaxtyping import Array, Float, Float32


class BlockTables(NamedTuple):
    """A block's weights, all float32, and what differs between kinds of windows.

    The affine parts of norms are folded into the layers that follow them, and the scale of the
    logits into the queries.

    Attributes:
        query, query_offset: from normalized tokens to scaled queries.
        key, value: from normalized tokens to keys and values.
        key_offset, value_offset: the bias, or that of padding where a token is outside the frame,
            since the official codes pad after the norm.
        logits: relative position bias, minus 100 where a query may not attend to a key.
        proj, proj_offset: of the attention's output.
        fc1, fc1_offset, fc2, fc2_offset: of the MLP.
    """

    query: Float32[Array, "c c"]
    query_offset: Float32[Array, " c"]
    key: Float32[Array, "c c"]
    key_offset: Float32[Array, "kinds keys c"]
    value: Float32[Array, "c c"]
    value_offset: Float32[Array, "kinds keys c"]
    logits: Float32[Array, "kinds heads queries keys"]
    proj: Float32[Array, "c c"]
    proj_offset: Float32[Array, " c"]
    fc1: Float32[Array, "c m"]
    fc1_offset: Float32[Array, " m"]
    fc2: Float32[Array, "m c"]
    fc2_offset: Float32[Array, " c"]


class Gate(NamedTuple):
    """Which tokens a block computes, and the values of the others.

    Attributes:
        mask: 1 where a token is computed, 0 where it takes the previous frame's values.
        attn, hidden: outputs of attention and MLP of the previous frame.
    """

    mask: Float32[Array, "w queries 1"]
    attn: Float[Array, "w queries c"]
    hidden: Float[Array, "w queries c"]
