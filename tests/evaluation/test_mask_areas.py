"""Where masks keep tokens, by the true motion."""

import json

import jax
import numpy as np
import pytest
from scored import protocol

from jaxvsr import models
from jaxvsr.data.sources import Clip
from jaxvsr.evaluation import mask_areas

SIZES = {"dim": 4, "depths": (1,), "num_heads": (1,), "mid_channels": 4, "features_hr": 4}


class Halves:
    """Two clips: in the first the left half moves and the right half stands still."""

    scale = 4
    clips = (Clip("a", 4, 128, 128, "tripod"), Clip("b", 4, 128, 128, "moving"))

    def read(self, clip, frames):
        rng = np.random.default_rng(clip)
        lq = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
        if not clip:
            lq[:, :, 16:] = lq[:1, :, 16:]
        frames = lq[list(frames)]
        return {"lq": frames, "gt": frames.repeat(4, 1).repeat(4, 2)}

    def read_flow(self, clip):
        flow = {f"flow_{way}": np.ones((4, 32, 32, 2), np.float32) for way in WAYS}
        flow |= {f"visible_{way}": np.ones((4, 32, 32), np.uint8) for way in WAYS}
        if not clip:
            flow["flow_forward"][1:, :, 16:] = flow["flow_backward"][:-1, :, 16:] = 0
        return flow


WAYS = ("forward", "backward")


@pytest.fixture(scope="module")
def report():
    model = models.create("miavsr", **SIZES, align=False, mask_start=0.05)
    lq = Halves().read(0, range(1))["lq"][None] / np.float32(255)
    variables = jax.jit(model.init)(jax.random.key(0), lq)
    return mask_areas.measure(model, Halves(), protocol(), variables)


def test_kept_tokens_are_counted_by_area(report):
    tripod, moving = report.rows
    assert (tripod.kind, moving.kind) == ("tripod", "moving")
    # An untrained predictor detects change; convolutions widen it by a few tokens.
    assert tripod.moving > 0.9 and tripod.still < 0.4
    assert moving.still is None and moving.moving > 0.9
    assert all(row.time > 0 for row in report.rows)
    assert sorted(report.blocks) == sorted(
        f"{way}_{i}/group_0/block_0" for way in WAYS for i in (1, 2)
    )
    mean = np.mean(list(report.blocks.values()))
    assert 0.5 * (0.9 + 0.45) < mean < 0.5 * (1 + 0.7)


def test_the_report_says_what_was_measured(report, tmp_path):
    assert "| moving | -" in report.table().replace("  ", "")
    path = report.save(tmp_path / "masks")
    saved = json.loads((tmp_path / "masks.json").read_text())
    assert saved["rows"][0]["kind"] == "tripod" and saved["rows"][1]["still"] is None
    assert path.with_suffix(".md").read_text() == report.table() + "\n"
    extreme = mask_areas.MaskReport(report.rows, {"a": 0.0, "b": 0.99, "c": 0.5, "d": 0.98})
    assert extreme.extreme == 0.5


def test_still_areas_neither_move_nor_appear():
    flow = Halves().read_flow(0)
    flow["visible_forward"][2, 0, 20] = 0
    still = mask_areas.still_area(flow, "forward")
    assert still[1:, 1:, 16:].all() and not still[:, :, :16].any() and not still[0].any()
    assert not still[2, 0, 20] and still[1, 0, 20]
    assert not mask_areas.still_area(flow, "backward")[-1].any()


def test_only_whole_clips_as_they_are_can_be_measured():
    assert mask_areas.whole_clips(protocol())
    for change in ({"tile": (0, 8, 8)}, {"noise": 5.0}, {"space": 2}, {"input": "mirror"}):
        assert not mask_areas.whole_clips(protocol(**change))
