"""Random weights of networks for image classification, named as torchvision's."""

import numpy as np

ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def vgg(counts, channels):
    """Weights of a VGG network.

    Args:
        counts: numbers of convolutions between poolings.
        channels: of each of these stages.
    """
    shapes, index, inputs = {}, 0, 3
    for count, outputs in zip(counts, channels, strict=True):
        for _ in range(count):
            shapes[index] = (outputs, inputs, 3)
            index, inputs = index + 2, outputs
        index += 1
    return convolutions(shapes)


def convolutions(shapes):
    """Weights of convolutions: index -> outputs, inputs, kernel size."""
    rng, tensors = np.random.default_rng(0), {}
    for index, (outputs, inputs, size) in shapes.items():
        kernel = rng.standard_normal((outputs, inputs, size, size), np.float32)
        kernel *= np.sqrt(2 / (inputs * size**2))
        tensors[f"features.{index}.weight"] = kernel
        tensors[f"features.{index}.bias"] = rng.standard_normal(outputs, np.float32) / 10
    return tensors


def frames():
    """Two frames that are alike: sr and gt (1, 40, 48, 3) uint8."""
    rng = np.random.default_rng(1)
    gt = rng.integers(0, 256, (1, 40, 48, 3))
    return (gt * 3 // 4 + rng.integers(0, 64, gt.shape)).astype(np.uint8), gt.astype(np.uint8)
