"""What a dead-leaves clip promises: same bytes, true flow, soft edges, occlusion, rich detail."""

import dataclasses
import functools
import hashlib
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from jaxvsr.data.degradations import imresize
from tfds_builders.dead_leaves import render, scene, shapes, textures


@functools.cache
def clip(seed=0, split="train", index=0, num_frames=4, size=(128, 160)):
    return render.render_clip(seed, split, index, num_frames, size)


def digest(arrays):
    together = b"".join(arrays[name].tobytes() for name in sorted(arrays))
    return hashlib.sha256(together).hexdigest()


def test_has_the_shapes_of_a_record():
    arrays = clip()
    shapes_and_types = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    assert shapes_and_types == {
        "gt": ((4, 128, 160, 3), np.uint8),
        "lq": ((4, 32, 40, 3), np.uint8),
        "flow_forward": ((4, 32, 40, 2), np.float32),
        "flow_backward": ((4, 32, 40, 2), np.float32),
        "visible_forward": ((4, 32, 40), np.uint8),
        "visible_backward": ((4, 32, 40), np.uint8),
    }
    np.testing.assert_array_equal(arrays["lq"], imresize(arrays["gt"], 1 / 4))


def test_same_arguments_same_bytes():
    again = render.render_clip(0, "train", 0, 4, (128, 160))
    assert digest(again) == digest(clip())


def test_same_bytes_without_the_newer_instructions_of_the_processor():
    newer = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    code = (
        "import hashlib; from tfds_builders.dead_leaves import render; "
        "clip = render.render_clip(0, 'train', 0, 4, (128, 160)); "
        "print(hashlib.sha256(b''.join(clip[name].tobytes() for name in sorted(clip))).hexdigest())"
    )
    env = os.environ | {
        "NPY_DISABLE_CPU_FEATURES": " ".join(newer),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", code]
    plain = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    assert plain.stdout.strip() == digest(clip())


@pytest.mark.parametrize("other", [{"seed": 1}, {"split": "val"}, {"index": 1}])
def test_other_arguments_other_clip(other):
    difference = clip()["gt"].astype(int) - clip(**other)["gt"]
    assert np.abs(difference).mean() > 20


@pytest.mark.parametrize(
    ("num_frames", "size"), [(0, (128, 128)), (2, (130, 128)), (2, (128, 0)), (2, (-4, 128))]
)
def test_refuses(num_frames, size):
    with pytest.raises(ValueError, match="sizes that 4 divides"):
        render.render_clip(0, "train", 0, num_frames, size)


def test_a_single_frame_has_no_flow():
    arrays = render.render_clip(0, "train", 0, 1, (64, 64))
    for way in ("forward", "backward"):
        assert not arrays[f"flow_{way}"].any() and not arrays[f"visible_{way}"].any()


@pytest.mark.parametrize("index", [0, 2, 4])
@pytest.mark.parametrize(("name", "step"), [("flow_forward", -1), ("flow_backward", 1)])
def test_flow_warps_the_neighbor_onto_the_frame(index, name, step):
    gt = clip(index=index)["gt"].astype(np.float64)
    flow = clip(index=index)[name]
    end = 0 if step == -1 else -1
    assert not flow[end].any()
    t, (height, width) = 2, gt.shape[1:3]
    y, x = np.mgrid[:height, :width]
    low = [(y - 1.5) / 4, (x - 1.5) / 4]
    dx, dy = (
        4 * ndimage.map_coordinates(flow[t, ..., axis], low, order=1, mode="nearest")
        for axis in (0, 1)
    )
    # Away from borders and from the edges of leaves, where something is hidden.
    near = range(-2, 3)
    spread = np.ptp([np.roll(flow[t], (i, j), (0, 1)) for i in near for j in near], 0)
    calm = np.kron(spread.max(axis=-1) < 0.05, np.ones((4, 4))) > 0
    there_y, there_x = y + dy, x + dx
    calm &= (there_x > 3) & (there_x < width - 4) & (there_y > 3) & (there_y < height - 4)
    warped = np.stack(
        [
            ndimage.map_coordinates(c, [there_y, there_x], order=3)
            for c in np.moveaxis(gt[t + step], -1, 0)
        ],
        axis=-1,
    )
    assert calm.sum() > 200
    error = np.abs(warped - gt[t])[calm].mean()
    unwarped = np.abs(gt[t + step] - gt[t])[calm].mean()
    assert error < 0.4 * unwarped


def leaf(path, outline=shapes.everywhere, radius=10.0, grey=1.0, pose=None):
    """A leaf of one grey without texture."""
    path = np.asarray(path, complex)
    return scene.Leaf(
        path=path,
        pose=np.ones_like(path) if pose is None else pose,
        outline=outline,
        radius=radius,
        reach=1.5,
        softness=2.4,
        gloom=(0.0, 1.0),
        tile=0,
        weave=1.0,
        colors=np.array([[grey] * 3, [0] * 3, [0] * 3], np.float32),
        shading=np.zeros(3, np.float32),
    )


def disc(path, **options):
    return leaf(path, functools.partial(shapes.ellipse, stretch=1.0), **options)


FLAT = [np.zeros((2, 8, 8), np.float32)]


def test_the_front_hides_the_back():
    front, back = disc([20 + 20j], grey=1.0), disc([26 + 20j], grey=0.5)
    ground = leaf([0], radius=100.0, grey=0.25)
    image = render.paint([front, back, ground], FLAT, 1, (40, 40))[0, ..., 0]
    assert image[20, 28] == pytest.approx(1.0)  # in both
    assert image[20, 34] == pytest.approx(0.5)
    assert image[2, 2] == pytest.approx(0.25)
    image = render.paint([back, front, ground], FLAT, 1, (40, 40))[0, ..., 0]
    assert image[20, 28] == pytest.approx(0.5)


def test_flow_is_that_of_the_front():
    front = disc([20 + 20j, 22 + 20j, 24 + 20j])
    leaves = [front, leaf([0, 4j, 8j], radius=100.0)]
    owner = render.front_leaves(leaves, 3, (40, 40))
    flow, visible = render.true_flow(leaves, owner, 0, 1)
    np.testing.assert_allclose(flow[4, 4], (0.5, 0))  # dx, in low-resolution pixels
    np.testing.assert_allclose(flow[0, 0], (0, 1))
    assert visible[4, 4] and visible[0, 0] and not visible[9].any()  # the last row leaves the frame
    assert owner[0, 2, 5] == 1 and not visible[2, 5]  # the disc comes to hide it
    flow, _ = render.true_flow(leaves, owner, 2, 0)
    np.testing.assert_allclose(flow[4, 4], (-1, 0))
    np.testing.assert_allclose(flow[0, 0], (0, -2))


def test_flow_of_rotation_and_zoom():
    turn = np.exp([0, 0.01 + 0.1j])
    ground = leaf([16 + 16j, 16 + 16j], radius=100.0, pose=turn)
    for scale in (2, 4):
        owner = render.front_leaves([ground], 2, (32, 32), scale)
        flow, _ = render.true_flow([ground], owner, 0, 1, scale)
        middle = (scale - 1) / 2
        here = complex(scale * 6 + middle, scale * 1 + middle) - (16 + 16j)
        moved = (here * turn[1] - here) / scale
        np.testing.assert_allclose(flow[1, 6], (moved.real, moved.imag), atol=2e-4)


def test_flow_back_from_where_it_is_visible_is_the_inverse():
    for index in range(4):
        arrays = clip(index=index)
        there, back = arrays["flow_backward"][1], arrays["flow_forward"][2]
        y, x = np.nonzero(arrays["visible_backward"][1])
        assert 0.5 < len(y) / there[..., 0].size <= 1
        landed = [np.rint(y + there[y, x, 1]).astype(int), np.rint(x + there[y, x, 0]).astype(int)]
        # Rotation and zoom change the flow between the point and the nearest pixel's center.
        np.testing.assert_allclose(back[*landed], -there[y, x], atol=0.15)


@pytest.mark.parametrize("index", [1, 5, 9])
def test_tripod_clips_move_over_a_still_ground(index):
    assert render.kind(index) == "tripod"
    arrays = clip(index=index, num_frames=3, size=(192, 192))
    moving = np.abs(arrays["flow_backward"][:-1]).max(-1) > 0
    assert 0 < moving.mean() < 0.7
    # What is seen through still leaves' edges moves with the shade and the edges of moving leaves.
    near = ndimage.binary_dilation(moving, np.ones((1, 11, 11)))
    same = (arrays["lq"][1:] == arrays["lq"][:-1]).all(-1)
    assert same[~near].mean() > 0.95


def test_stop_and_go_clips_hold_and_move_again():
    repeated = 0
    for index in (3, 7, 11, 15, 19, 23):
        assert render.kind(index) == "stop-and-go"
        arrays = clip(index=index, num_frames=9, size=(64, 64))
        moves = (arrays["flow_backward"][:-1] != 0).any((1, 2, 3))
        same = (arrays["gt"][1:] == arrays["gt"][:-1]).all((1, 2, 3))
        assert moves.any()
        np.testing.assert_array_equal(same[~moves], True)
        repeated += same.any()
    assert repeated >= 2


def test_half_of_the_clips_have_a_moving_camera():
    kinds = [render.kind(index) for index in range(8)]
    assert kinds.count("moving") == 4 and set(kinds) == {"moving", "tripod", "stop-and-go"}
    for index in range(8):
        leaves, _ = render.random_clip(0, "train", index, 6, (64, 64))
        if render.kind(index) == "moving":
            assert (np.diff(leaves[-1].path) != 0).all()
        if render.kind(index) == "tripod":
            assert not np.diff(leaves[-1].path).any()


def test_refuses_unknown_kinds():
    with pytest.raises(ValueError, match="'still'"):
        scene.random_scene(np.random.default_rng(0), "still", 2, (64, 64), 6)


def test_edges_are_soft_and_do_not_shimmer():
    shifts = np.arange(0, 1, 0.1)
    image = render.paint([disc(20 + 20j + shifts * (1 + 0.37j))], FLAT, 10, (40, 40))[..., 0]
    area = image.sum(axis=(1, 2))
    assert np.ptp(area) < 2e-3 * area.mean()
    ramp = image[5, 20, 26:36]
    assert ((ramp > 0.02) & (ramp < 0.98)).sum() == 2
    row = np.arange(40) @ image.sum(axis=2).T / area
    np.testing.assert_allclose(row, 20 + 0.37 * shifts, atol=2e-3)


def test_a_thin_line_keeps_its_brightness_at_every_angle():
    turns = np.exp(1j * np.linspace(0, np.pi / 2, 9))
    outline = functools.partial(shapes.bar, thickness=1 / 12)
    line = leaf(np.full(9, 20 + 20.3j), outline, radius=12.0, pose=turns)
    image = render.paint([line], FLAT, 9, (40, 40))
    total = image.sum(axis=(1, 2, 3))
    assert np.ptp(total) < 0.02 * total.mean()


def test_outlines_are_negative_inside_and_within_their_reach():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-8:8:161j, -8:8:161j]
    for _ in range(60):
        outline, reach = shapes.random_outline(rng, 0.1)
        inside = outline(x, y) < 0
        assert inside.any()
        assert np.hypot(x, y)[inside].max() < reach + 1e-6


@pytest.mark.parametrize("draw", textures.DRAWINGS, ids=lambda draw: draw.__name__)
def test_textures_repeat_without_a_seam(draw, monkeypatch):
    monkeypatch.setattr(textures, "DRAWINGS", (draw,))
    monkeypatch.setattr(textures, "FRACTIONS", (1.0,))
    tile = textures.random_texture(np.random.default_rng(0), 128)
    assert tile.shape == (2, 128, 128) and tile.dtype == np.float32
    assert np.abs(tile.mean(axis=(1, 2))).max() < 1e-3
    assert 0.2 < tile.std() < 2
    for axis in (1, 2):
        steps = np.abs(np.diff(np.concatenate([tile, tile.take([0], axis)], axis), axis=axis))
        seam = steps.take(-1, axis).mean()
        assert seam < 2.5 * steps.mean() + 0.05


def test_looks_like_photographs_in_the_large():
    frames = np.stack([clip(index=index)["gt"][0] for index in range(8)]).astype(np.float64)
    assert np.percentile(frames, 1) < 15 and np.percentile(frames, 99) > 240
    assert 70 < frames.mean() < 170 and 40 < frames.std() < 90
    colorfulness = np.ptp(frames, axis=-1).mean(axis=(1, 2))
    assert colorfulness.max() > 2 * colorfulness.min()
    # The spectrum of natural images falls as frequency^-2.
    grey = frames[:, :128, :128].mean(axis=-1)
    grey = (
        (grey - grey.mean(axis=(1, 2), keepdims=True)) * np.hanning(128) * np.hanning(128)[:, None]
    )
    power = (np.abs(np.fft.fft2(grey)) ** 2).mean(axis=0)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    edges = np.geomspace(0.02, 0.25, 8)
    bands = [power[(radius >= a) & (radius < b)].mean() for a, b in itertools.pairwise(edges)]
    slope = np.polyfit(np.log(edges[1:]), np.log(bands), 1)[0]
    assert -3.3 < slope < -1.7


def test_detail_is_lost_by_the_reduction_but_not_all():
    scores = []
    for index in range(8):
        arrays = clip(index=index)
        error = arrays["gt"].astype(np.float64) - imresize(arrays["lq"], 4)
        scores.append(10 * np.log10(255**2 / np.mean(error**2)))
    assert 22 < np.mean(scores) < 28


def test_scenes_move_by_pixels_and_smoothly():
    speeds, changes = [], []
    for index in range(12):
        leaves = scene.random_scene(np.random.default_rng(index), "moving", 10, (256, 256), 6)
        steps = np.diff([leaf.path for leaf in leaves], axis=1)
        speeds.append(np.abs(steps).mean())
        changes.append(np.abs(np.diff(steps, axis=1)).mean())
    assert 0.5 < np.median(speeds) < 6
    assert np.mean(changes) < 0.25 * np.mean(speeds)


def test_every_leaf_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        disc([0]).radius = 3.0
