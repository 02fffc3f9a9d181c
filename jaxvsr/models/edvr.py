"""EDVR's feature extractor: deformable alignment of neighboring frames, then temporal attention.

IconVSR uses it to refill features at keyframes.

Source: Wang et al., "EDVR: Video Restoration with Enhanced Deformable Convolutional Networks",
CVPR Workshops 2019, section 3.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvsr.layers.blocks import Conv, ResidualBlock, conv, leaky_relu, strided_conv
from jaxvsr.layers.deform import DeformConv
from jaxvsr.layers.upsample import resize

DEFORM_GROUPS = 8


class DeformPack(nn.Module):
    """Deformable convolution with offsets predicted from other features.

    Attributes:
        dtype: of the computation; offsets are float32.
    """

    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w dim"], guide: Float[Array, "n h w dim"]
    ) -> Float[Array, "n h w dim"]:
        """Convolves x (n, h, w, dim) at offsets predicted from guide (n, h, w, dim)."""
        # Zero initialization: sampling starts from the regular grid.
        init = nn.initializers.zeros_init()
        layer = Conv(27 * DEFORM_GROUPS, (3, 3), kernel_init=init, name="conv_offset")
        head = layer(guide.astype(jnp.float32))
        return DeformConv(x.shape[-1], self.dtype, name="deform")(x, head)


class PCDAlignment(nn.Module):
    """PCD alignment: deformable alignment on a pyramid, coarse to fine, then a cascaded one.

    Attributes:
        dtype: of the computation.

    Source: section 3.2.
    """

    dtype: Any

    @nn.compact
    def __call__(
        self,
        neighbors: list[Float[Array, "n _ _ dim"]],
        references: list[Float[Array, "n _ _ dim"]],
    ) -> Float[Array, "n h w dim"]:
        """Aligns neighboring frames to reference frames.

        Args:
            neighbors: features (n, h, w, dim) at full, half and quarter resolution.
            references: features of the same shapes.

        Returns:
            (n, h, w, dim).
        """
        offset = feat = jnp.zeros(())
        for level in (3, 2, 1):
            neighbor, reference = neighbors[level - 1], references[level - 1]
            coarser_offset, coarser_feat = offset, feat
            offset = self.conv([neighbor, reference], f"offset_conv1_l{level}")
            if level == 3:
                offset = self.conv([offset], f"offset_conv2_l{level}")
            else:
                # Offsets are in pixels of half the size.
                coarser_offset = 2 * double(coarser_offset)
                offset = self.conv([offset, coarser_offset], f"offset_conv2_l{level}")
                offset = self.conv([offset], f"offset_conv3_l{level}")
            feat = DeformPack(self.dtype, name=f"dcn_pack_l{level}")(neighbor, offset)
            if level < 3:
                feat = jnp.concatenate([feat, double(coarser_feat)], axis=-1)
                dim = neighbor.shape[-1]
                feat = conv(feat, dim, name=f"feat_conv_l{level}", dtype=self.dtype)
            if level > 1:
                feat = leaky_relu(feat)
        offset = self.conv([feat, references[0]], "cas_offset_conv1")
        offset = self.conv([offset], "cas_offset_conv2")
        return leaky_relu(DeformPack(self.dtype, name="cas_dcnpack")(feat, offset))

    def conv(self, parts: list[Float[Array, "n h w dim"]], name: str) -> Float[Array, "n h w dim"]:
        """Concatenates parts (n, h, w, dim) and convolves them to (n, h, w, dim)."""
        x = jnp.concatenate(parts, axis=-1)
        return leaky_relu(conv(x, parts[0].shape[-1], name=name, dtype=self.dtype))


class TSAFusion(nn.Module):
    """TSA fusion: temporal attention by similarity to the middle frame, then spatial attention.

    Attributes:
        dtype: of the computation.

    Source: section 3.3.
    """

    dtype: Any

    @nn.compact
    def __call__(self, aligned: Float[Array, "n t h w dim"]) -> Float[Array, "n h w dim"]:
        """Fuses aligned features (n, t, h, w, dim) to (n, h, w, dim)."""
        n, t, h, w, dim = aligned.shape
        middle = conv(aligned[:, t // 2], dim, name="temporal_attn1", dtype=self.dtype)
        embedded = conv(aligned, dim, name="temporal_attn2", dtype=self.dtype)
        similarity = (embedded * middle[:, None]).sum(-1, keepdims=True, dtype=jnp.float32)
        weighted = aligned * nn.sigmoid(similarity).astype(self.dtype)
        weighted = jnp.moveaxis(weighted, 1, 3).reshape(n, h, w, t * dim)
        feat = self.conv(weighted, dim, "feat_fusion", 1)

        attn = self.conv(weighted, dim, "spatial_attn1", 1)
        attn = self.conv(halve(attn), dim, "spatial_attn2", 1)
        coarse = self.conv(attn, dim, "spatial_attn_l1", 1)
        coarse = self.conv(halve(coarse), dim, "spatial_attn_l2")
        coarse = self.conv(coarse, dim, "spatial_attn_l3")
        attn = self.conv(attn, dim, "spatial_attn3") + double(coarse)
        attn = self.conv(attn, dim, "spatial_attn4", 1)
        attn = conv(double(attn), dim, name="spatial_attn5", dtype=self.dtype)
        bias = self.conv(attn, dim, "spatial_attn_add1", 1)
        bias = conv(bias, dim, 1, name="spatial_attn_add2", dtype=self.dtype)
        return 2 * feat * nn.sigmoid(attn) + bias

    def conv(
        self, x: Float[Array, "n h w c"], dim: int, name: str, kernel_size: int = 3
    ) -> Float[Array, "n h w {dim}"]:
        """Convolution and activation, (n, h, w, c) -> (n, h, w, dim)."""
        return leaky_relu(conv(x, dim, kernel_size, name=name, dtype=self.dtype))


class EDVRFeatures(nn.Module):
    """EDVR without its upsampling: features of the middle frame of a window of frames.

    Attributes:
        dim: channels of the features.
        dtype: of the computation.
    """

    dim: int
    dtype: Any

    @nn.compact
    def __call__(self, frames: Float[Array, "n t h w 3"]) -> Float[Array, "n h w {self.dim}"]:
        """Maps frames (n, t, h, w, 3) in [0, 1], h and w multiples of 4, to (n, h, w, dim)."""
        n, t = frames.shape[:2]
        frames = frames.reshape(-1, *frames.shape[2:])
        x = leaky_relu(conv(frames, self.dim, name="conv_first", dtype=self.dtype))
        for i in range(5):
            x = ResidualBlock(self.dtype, name=f"feature_extraction_{i}")(x)
        levels = [x]
        for level in (2, 3):
            x = strided_conv(x, self.dim, name=f"conv_l{level}_1", dtype=self.dtype)
            x = conv(leaky_relu(x), self.dim, name=f"conv_l{level}_2", dtype=self.dtype)
            x = leaky_relu(x)
            levels.append(x)

        middle = [jnp.repeat(x.reshape(n, t, *x.shape[1:])[:, t // 2], t, axis=0) for x in levels]
        aligned = PCDAlignment(self.dtype, name="pcd_align")(levels, middle)
        return TSAFusion(self.dtype, name="fusion")(aligned.reshape(n, t, *aligned.shape[1:]))


def double(x: Float[Array, "n h w c"]) -> Float[Array, "n 2*h 2*w c"]:
    """Bilinear upsampling by two, (n, h, w, c) -> (n, 2*h, 2*w, c)."""
    return resize(x, (2 * x.shape[1], 2 * x.shape[2]))


def halve(x: Float[Array, "n h w c"]) -> Float[Array, "n (h+1)//2 (w+1)//2 2*c"]:
    """Max pooling and average pooling of 3x3 pixels, stride 2: (n, ceil(h/2), ceil(w/2), 2*c)."""
    edge = (1, 1)
    # Padded separately: XLA's partitioner gives two poolings of one array the same padding.
    padded = jnp.pad(x, ((0, 0), edge, edge, (0, 0)), constant_values=-jnp.inf)
    greatest = nn.max_pool(padded, (3, 3), strides=(2, 2))
    mean = nn.avg_pool(x, (3, 3), strides=(2, 2), padding=(edge, edge))
    return jnp.concatenate([greatest, mean], axis=-1)
