"""Compares frames whose rows four devices share with whole ones: a program for `test_space.py`.

`python divided.py layers` or the name of a model; it ends with an error where they differ.
"""

import functools
import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
import numpy as np

from jaxvsr import models
from jaxvsr.distributed import spatial_sharding
from jaxvsr.distributed.mesh import make_mesh, split_batch
from jaxvsr.evaluation import restoring
from jaxvsr.layers import deform, gating, upsample, warp, window_chunks, windows
from jaxvsr.layers.sown import sown
from jaxvsr.models.edvr import halve
from jaxvsr.upscale import Settings, upscale

TINY = {"dim": 8, "features_hr": 4}
TRANSFORMER = TINY | {"depths": (2,), "num_heads": (2,), "mid_channels": 4}
CLIPS = TINY | {"num_heads": (2,) * 3, "window_size": (2, 4, 4), "attention_heads": 2}
# The smallest network of each kind.
MODELS = {
    "abpn": {},
    "afavsr": {"dim": 16, "attention_dim": 16},
    "basicvsr": {"dim": 4, "depth": 1, "features_hr": 4},
    "basicvsrpp": {"dim": 16, "depth": 1, "features_hr": 4},
    "bicubic": {},
    "fani": {"dim": 16},
    "iconvsr": {"dim": 8, "depth": 1, "features_hr": 4},
    "iiavsr": TRANSFORMER,
    "miavsr": TRANSFORMER | {"gating": "bucketed"},
    "mobile_rrn": {"num_blocks": 1},
    "psrt": TRANSFORMER,
    "rvrt": CLIPS | {"num_blocks": (1, 1, 1), "deform_groups": 2},
    "rvrt_light": CLIPS | {"num_blocks": (1, 1, 1)},
    "sort": {},
    "spynet": {},
    "swat": {},
    "swrn": {},
    "vrt": {
        "dims": (8,) * 9,
        "depths": (2,) * 9,
        "num_heads": (2,) * 9,
        "window_size": (2, 4, 4),
        "indep_reconsts": (8,),
        "mul_attn_ratio": 0.5,
        "deform_groups": 2,
        "features_hr": 4,
    },
    "vsr": {},
}
RNG = np.random.default_rng(0)


def normal(*shape, spread=1.0):
    return np.float32(spread * RNG.normal(size=shape))


def assert_same(function, *frames, at=1):
    """A function of frames (2, ..., h, w, c), whose rows are at an axis, gives the same by rows."""
    mesh = make_mesh(space=2)

    def by_rows(*frames):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*(spatial_sharding.split(x, at) for x in frames))

    placed = jax.device_put(frames, split_batch(mesh))
    results = jax.jit(function)(*frames), jax.jit(by_rows)(*placed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *results)


def layers():
    """Rows that move, from anywhere to anywhere, on a mesh of two clips and two halves."""
    for height in (16, 35):
        x, flow = normal(2, height, 9, 16), normal(2, height, 9, 2, spread=height)
        of_rows(x)
        assert_same(halve, x)
        assert_same(warp.patch_align, x, flow)
        assert_same(warp.nearest_corners, x, flow)
        for padding in ("zeros", "border", "reflection"):
            assert_same(functools.partial(warp.flow_warp, padding=padding), x, flow)
        deformed = functools.partial(
            deform.deform_conv2d, mask=None, weight=normal(3, 3, 16, 4), bias=None
        )
        assert_same(
            lambda x, offset, f=deformed: f(x, offset), x, normal(2, height, 9, 36, spread=9)
        )
        for shift in ((0, 0, 0), (0, 4, 3)):
            how = {"size": (1, height, 9), "window_size": (1, 8, 6), "shift": shift}
            assert_same(functools.partial(by_windows, **how), x)


def of_rows(x):
    """Rows that are moved, resized and shuffled."""
    mesh, height = make_mesh(space=2), x.shape[1]
    program = jax.jit(spatial_sharding.by_rows(lambda x: 2 * x, mesh))
    out = program(jax.device_put(x[:, None], split_batch(mesh)))
    assert {shard.data.shape[2] for shard in out.addressable_shards} == {-(-height // 2)}
    np.testing.assert_array_equal(out[:, 0, :height], 2 * x)
    for rows in (np.arange(height)[::-1], RNG.integers(-1, height, 41), np.arange(5)):
        assert_same(functools.partial(spatial_sharding.take, rows=rows), x)
    for size in ((2 * height, 18), (height // 2, 5), (3 * height + 1, 9)):
        assert_same(functools.partial(upsample.resize, size=size), x)
    align = functools.partial(upsample.resize, size=(2 * height, 9), align_corners=True)
    assert_same(align, x)
    for function in (upsample.pixel_shuffle, upsample.depth_to_space):
        assert_same(functools.partial(function, factor=2), x)
    assert_same(functools.partial(upsample.pixel_unshuffle, factor=2), x[:, : height // 2 * 2, :8])
    assert_same(
        functools.partial(spatial_sharding.pad_bottom_right, bottom=7, right=3, mode="reflect"), x
    )


def by_windows(x, size, window_size, shift):
    """Something of each window, and what tells windows apart, of every token."""
    tokens = windows.partition(x[:, None], window_size, shift)
    own = windows.count(size, window_size)
    flat = tokens.reshape(-1, *tokens.shape[2:])
    regions, inside = (
        jnp.tile(made(size, window_size, shift), (len(x), 1))[..., None]
        for made in (windows.shift_regions, windows.inside_frame)
    )
    inputs = flat, regions, inside
    each = window_chunks.map_chunks(mean_of_regions, None, inputs)
    kept = (flat[..., 0] > 0) & inside[..., 0]
    some = gating.compute_kept(positive, None, flat, kept, -flat)
    whole = [
        windows.merge(y.reshape((*tokens.shape[:3], -1)), size, window_size, shift)
        for y in (each, some)
    ]
    return whole, tokens[:, :own].mean((1, 2))


def mean_of_regions(_, inputs):
    x, regions, inside = inputs
    together = (regions == regions.swapaxes(1, 2)) & inside.swapaxes(1, 2)
    return x + (together @ x) / together.sum(-1, keepdims=True).clip(1)


def positive(_, x, rows):
    return jnp.abs(x if rows is None else jnp.take_along_axis(x, rows[..., None], axis=1))


def fill(path, leaf):
    values = normal(*leaf.shape, spread=0.1)
    return jnp.asarray(np.abs(values) if "var" in jax.tree_util.keystr(path) else values)


def network(name, shared=4, height=70, **fields):
    """A network's image and masks, restored by so many devices each clip."""
    small = name in ("miavsr", "vrt") or "features_hr" in MODELS[name]
    model = models.create(name, **MODELS[name] | fields)
    frames = 4 if name.startswith("rvrt") else 3
    lq = RNG.integers(0, 256, (4 // shared, frames, height, 64 if small else 11, 3), np.uint8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), lq / np.float32(255))
    variables = jax.tree_util.tree_map_with_path(fill, shapes)
    mesh = make_mesh(space=shared)
    placed = jax.device_put(lq, split_batch(mesh))
    alone = jax.jit(lambda v, lq: model.apply(v, lq / np.float32(255), mutable="aux"))
    restorer = restoring.make_restorer(model, shared).__wrapped__
    programs = [f.lower(variables, x).compile() for f, x in ((alone, lq), (restorer, placed))]
    memory, less = (program.memory_analysis().temp_size_in_bytes for program in programs)
    print(f"{name}: {less / memory:.2f} of the memory on each of {shared} devices")
    assert less < 0.7 * memory
    sr, state = programs[0](variables, lq)
    got, computed = programs[1](variables, placed)
    rows = {shard.data.shape[2] for shard in got.addressable_shards}
    assert rows == {-(-sr.shape[2] // shared)}, rows
    assert np.isfinite(sr).all()
    atol = 1e-5 * max(1, np.abs(sr).max())
    np.testing.assert_allclose(got[:, :, : sr.shape[2]], sr, atol=atol)
    masks = sown(state.get("aux", {}), "mask")
    if masks:
        expected = jnp.moveaxis(sum(masks) / len(masks), 0, 1)
        assert 0.01 < expected[:, 1:].mean() < 0.99
        np.testing.assert_array_equal(computed[:, :, :height], expected)
    return model, variables, lq


def users():
    """Tiles and other rules of evaluation, and streams, of a network whose frames are shared."""
    model, variables, lq = network("mobile_rrn", shared=2, height=41)
    clip, given = lq[0], {"rule": "mirror", "multiple": (2, 16, 1)}
    for how in (given, {"tile": (0, 33, 0), "overlap": (0, 4, 0)}):
        results = [
            restoring.restore_clips(
                restoring.make_restorer(model, shared), variables, [(clip, 0)], space=shared, **how
            )
            for shared in (1, 2, 4)
        ]
        whole, *divided = (next(result)[1] for result in results)
        for sr in divided:
            np.testing.assert_allclose(sr, whole, atol=1)
    for tile in ((0, 0), (64, 64)):
        frames = RNG.integers(0, 256, (6, 70, 66, 3), np.uint8)
        whole, divided = (
            upscale(frames, model, variables, Settings(chunk=6, overlap=2, tile=tile, space=shared))
            for shared in (1, 4)
        )
        np.testing.assert_allclose(divided.astype(int), whole, atol=1)


if __name__ == "__main__":
    jax.config.update("jax_default_matmul_precision", "highest")
    for case in sys.argv[1:]:
        {"layers": layers, "users": users}.get(case, lambda case=case: network(case))()
