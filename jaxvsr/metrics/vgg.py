"""VGG networks for image classification, whose features compare images."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Numbers of convolutions between poolings.
VGG16, VGG19 = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)
CHANNELS = (64, 128, 256, 512, 512)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images
Weights = np.ndarray | jax.Array
Layers = dict[str, tuple[Weights, Weights]]  # name -> kernel (k, k, i, o), bias (o,)


def vgg_layers(tensors: Mapping[str, np.ndarray], counts: Sequence[int]) -> Layers:
    """Takes the convolutions from torchvision's weights of a VGG network.

    Args:
        tensors: a state_dict, "features.0.weight" and so on.
        counts: VGG16 or VGG19.

    Returns:
        The layers by name, "conv1_1" to "conv5_4", in their order.

    Raises:
        ValueError: the weights are of another network.
    """
    layers: Layers = {}
    index, inputs = 0, 3
    for stage, (count, outputs) in enumerate(zip(counts, CHANNELS, strict=True), start=1):
        for i in range(1, count + 1):
            name = f"features.{index}"
            kernel, bias = (tensors.get(f"{name}.{kind}") for kind in ("weight", "bias"))
            shapes = tuple(None if x is None else x.shape for x in (kernel, bias))
            if kernel is None or bias is None or shapes != ((outputs, inputs, 3, 3), (outputs,)):
                raise ValueError(
                    f"it holds no weights of torchvision's VGG{3 + sum(counts)}: {name}.weight "
                    f"and .bias must have the shapes {(outputs, inputs, 3, 3)} and {(outputs,)}"
                )
            layers[f"conv{stage}_{i}"] = kernel.transpose(2, 3, 1, 0), bias
            index, inputs = index + 2, outputs
        index += 1
    return layers


def vgg_features(
    layers: Layers,
    frames: Float[Array, "n h w 3"],
    pool: Callable[[jax.Array], jax.Array] | None = None,
) -> dict[str, jax.Array]:
    """Computes the outputs of the convolutions of a VGG network, before their ReLU.

    Args:
        layers: of `vgg_layers`.
        frames: RGB in [0, 1].
        pool: halves features (n, h, w, c) between stages; None: maximum of 2x2.

    Returns:
        Features (n, h', w', c) by the name of the layer.

    Raises:
        ValueError: frames are smaller than 16x16.

    Source: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image
        recognition", table 1, columns D and E.
    """
    if min(frames.shape[1:3]) < 16:
        height, width = frames.shape[1:3]
        raise ValueError(f"frames of {height}x{width} are too small; VGG expects at least 16x16")
    x, features = normalized(frames), {}
    for name, (kernel, bias) in layers.items():
        if name.endswith("_1") and name != "conv1_1":
            x = pool(x) if pool else max_pool(x, 2, 2)
        features[name] = convolve(x, kernel, bias)
        x = jax.nn.relu(features[name])
    return features


def normalized(frames: jax.Array) -> jax.Array:
    """Shifts and scales RGB in [0, 1] as ImageNet's images."""
    return (frames - jnp.array(MEAN)) / jnp.array(DEVIATION)


def convolve(
    x: jax.Array, kernel: Weights, bias: Weights, stride: int = 1, padding: int = 1
) -> jax.Array:
    """Convolves (n, h, w, i) with (k, k, i, o), zeros beyond the border."""
    axes, weights = ("NHWC", "HWIO", "NHWC"), jnp.asarray(kernel)
    strides, pads = (stride, stride), ((padding, padding),) * 2
    return jax.lax.conv_general_dilated(x, weights, strides, pads, dimension_numbers=axes) + bias


def max_pool(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Maxima of squares of (n, h, w, c) inside the frame."""
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, "VALID")
