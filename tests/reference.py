"""Comparison with the golden cases, numbers read off the official implementations."""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

GOLDEN = pathlib.Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
import golden  # noqa: E402

direction = golden.direction


@functools.cache
def load(case: str):
    """(manifest, official tensors, arrays) of a case."""
    return golden.load(GOLDEN / case)


def channels_last(x: np.ndarray) -> jax.Array:
    """PyTorch's (..., c, h, w) as (..., h, w, c)."""
    return jnp.moveaxis(x, -3, -1)


def relative_error(actual, expected) -> float:
    """||actual - expected|| / ||expected||."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-30))


def assert_frames(actual, manifest: dict, arrays: dict, key: str, bar: float) -> None:
    """Compares (..., h, w, c) with a case's stored window and per-frame sums."""
    actual = np.asarray(actual, np.float64)
    case = manifest["cases"][key]
    assert list(actual.shape) == list(case["shape"]), (key, actual.shape, case["shape"])
    h0, h1, w0, w1 = case["window"]
    window = actual[..., h0:h1, w0:w1, :]
    assert relative_error(window, arrays[f"{key}/crop"]) < bar, key
    axes = (-3, -2, -1)
    assert relative_error(np.abs(actual).sum(axes), arrays[f"{key}/abs"]) < bar, key
    assert relative_error((actual**2).sum(axes), arrays[f"{key}/sq"]) < 2 * bar, key
    # A sum of both signs may nearly cancel: its error is judged by what was added up.
    error = np.abs(actual.sum(axes) - arrays[f"{key}/sum"]) / arrays[f"{key}/abs"]
    assert error.max() < bar, key


def torch_kernel(kernel: np.ndarray) -> np.ndarray:
    """OIHW or OI1HW -> HWIO, OI -> IO."""
    kernel = kernel.squeeze(2) if kernel.ndim == 5 else kernel
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T


def assert_gradients(gradients, official_name, manifest, arrays, bar, prefix="grad", **how) -> None:
    """Compares a tree of gradients, tensor by tensor.

    Args:
        gradients: our tree.
        official_name: from a place in the tree to the official tensor's name.
        manifest, arrays: of the case.
        bar: relative error of the norms. The projections on a random direction are judged by the
            norm too, since they are as large as it whatever their own value.
        prefix: of the stored numbers.
        **how: kernel=, from the official layout of kernels to ours; torch_kernel if not given.
    """
    kernel = how.get("kernel", torch_kernel)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        name = official_name(place)
        shape = manifest["tensors"][name]["shape"]
        r = direction(name, shape, manifest["salt"]).astype(np.float64)
        r = kernel(r) if place.endswith("kernel") else r
        leaf = np.asarray(leaf, np.float64)
        norm, dot = arrays[f"{prefix}/norm/{name}"], arrays[f"{prefix}/dot/{name}"]
        assert abs(np.linalg.norm(leaf) - norm) <= bar * norm, (name, np.linalg.norm(leaf), norm)
        assert abs((leaf * r).sum() - dot) <= 3 * bar * norm, (name, (leaf * r).sum(), dot, norm)
