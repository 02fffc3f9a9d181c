"""Pictures of an evaluation."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scored import Source, protocol, repeat_pixels, score

from jaxvsr import models
from jaxvsr.data.degradations import imresize
from jaxvsr.evaluation import drawing, pictures


def test_the_picture_shows_the_middle_frame_side_by_side():
    def with_masks(variables, lq):
        return repeat_pixels(variables, lq)[0], jnp.full(lq.shape[:4], 0.25)

    plain, masked = (
        pictures.side_by_side(result.drawn["frame"]) for result in (score(), score(with_masks))
    )
    assert plain.dtype == np.uint8
    gap = 4
    assert plain.shape[1] == 4 * 64 + 3 * gap and masked.shape[1] == 5 * 64 + 4 * gap
    frames = Source().read(0, range(3))
    height = plain.shape[0] - 48
    panel = plain[height:, 3 * (64 + gap) :]
    np.testing.assert_array_equal(panel, frames["gt"][1])
    np.testing.assert_array_equal(plain[height:, :64][::4, ::4], frames["lq"][1])


def test_panels_one_by_one_are_large_and_have_titles():
    panels = score().drawn["frame"]
    shown = pictures.one_by_one(panels)
    assert shown.shape == (4, 64 + 10 * 48, 640, 3)
    np.testing.assert_array_equal(shown[3, 64::10, ::10], panels["gt"])
    large = {"sr": np.zeros((3, 1280, 3), np.uint8)}
    assert pictures.one_by_one(large).shape == (1, 128 + 3, 1280, 3)


def test_masks_are_drawn_of_the_first_clip_or_a_tile_of_it(monkeypatch):
    seen = []

    def masks_of(model, variables, lq):
        seen.append(lq.shape)
        return {"forward_1/group_0/block_0": np.ones(lq.shape[:3], bool)}

    monkeypatch.setattr(drawing.mask_pictures, "masks_of", masks_of)
    variables = {"params": jnp.zeros(())}
    for tile, expected in (((0, 0, 0), (3, 12, 16, 3)), ((2, 8, 0), (2, 8, 16, 3))):
        model = models.create("miavsr")
        drawn, film = drawing.draw_masks(model, Source(), protocol(tile=tile), variables)
        assert seen[-1] == expected and len(film) == expected[0]
        assert drawn["masks"].shape[0] == 22 + 10 * expected[1]  # small frames are repeat_pixelsd
    without = models.create("iiavsr")
    assert drawing.draw_masks(without, Source(), protocol(), variables) == ({}, [])


class Tripod(Source):
    """Its second clip has a still camera, and things move in the left half."""

    has_flow = True
    clips = (Source.clips[0], dataclasses.replace(Source.clips[1], kind="tripod"))

    def read_flow(self, clip):
        assert clip == 1
        flow = {f"flow_{way}": np.zeros((3, 12, 16, 2)) for way in ("forward", "backward")}
        flow["flow_forward"][:, :, :8] = 1
        return flow | {f"visible_{way}": np.ones((3, 12, 16)) for way in ("forward", "backward")}


def test_masks_are_drawn_of_a_clip_with_a_still_camera_beside_its_motion(monkeypatch):
    seen = []

    def masks_of(model, variables, lq):
        seen.append(lq)
        return {"forward_1/group_0/block_0": np.ones(lq.shape[:3], bool)}

    monkeypatch.setattr(drawing.mask_pictures, "masks_of", masks_of)
    variables = {"params": jnp.zeros(())}
    drawn, _ = drawing.draw_masks(models.create("miavsr"), Tripod(), protocol(), variables)
    np.testing.assert_array_equal(seen[0], Tripod().read(1, range(3))["lq"])
    height, width = 10 * 12, 10 * 16
    picture = drawn["masks"]
    assert picture.shape == (2 * (22 + height), 2 * width + 4, 3)  # a row for the motion
    motion = picture[22 : 22 + height, width + 4 :].astype(int)
    red = motion[..., 0] - motion[..., 2] > 100
    assert red[:, : width // 2].all() and not red[:, width // 2 :].any()


@pytest.mark.parametrize("width", [8, 24, 40])
def test_the_bicubic_column_of_a_profile_is_that_of_whole_frames(width, monkeypatch):
    lq = np.random.default_rng(0).integers(0, 256, (2, 4, width // 4, 3), np.uint8)
    gt = np.zeros((2, 16, width, 3), np.uint8)
    seen = {}
    monkeypatch.setattr(drawing.pictures, "side_by_side", seen.update)
    drawing.temporal_profile(4, lq, gt, gt)
    column = imresize(lq, 4)[:, :, width // 2].swapaxes(0, 1)
    np.testing.assert_array_equal(seen["bicubic"][:, :: seen["bicubic"].shape[1] // 2], column)


def test_a_profile_is_a_column_over_time():
    gt = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), np.uint8)
    lq, sr = gt[:, ::4, ::4], gt // 2
    picture = drawing.temporal_profile(4, lq, gt, sr)[-16:]
    frame = 24 // (2 * 5) + 1  # pixels that a frame takes
    assert picture.shape == (16, 24 + 3 * (4 + 5 * frame), 3)
    last = picture[:, -5 * frame :: frame]
    np.testing.assert_array_equal(last, gt[:, :, 12].swapaxes(0, 1))
