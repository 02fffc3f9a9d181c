"""Errors of an estimated flow on clips with true flow."""

import json

import numpy as np
from scored import protocol

from jaxvsr.data.sources import Clip
from jaxvsr.evaluation import flow_errors


class Flowing:
    """Clips with a flow of (3, 4) pixels forward and (0, 1) backward; half of it is visible."""

    clips = (Clip("a", 3, 64, 64, "moving"), Clip("b", 3, 64, 64, "tripod"))

    def read(self, clip, frames):
        return {"lq": np.zeros((len(frames), 16, 16, 3), np.uint8)}

    def read_flow(self, clip):
        flows = {}
        for way, flow, end in (("forward", (3, 4), 0), ("backward", (0, 1), -1)):
            flows[f"flow_{way}"] = np.tile(np.float32(flow), (3, 16, 16, 1))
            flows[f"flow_{way}"][end] = 0
            flows[f"flow_{way}"][:, :8] = 99
            flows[f"visible_{way}"] = np.ones((3, 16, 16), np.uint8)
            flows[f"visible_{way}"][:, :8] = flows[f"visible_{way}"][end] = 0
        return flows


def estimate(error):
    flows = np.tile(np.float32([(3, 4), (0, 1)])[:, None, None, None], (1, 2, 16, 16, 1))
    return lambda variables, lq: flows + np.float32([error, 0])


def test_visible_pixels_are_compared_with_their_neighbors(tmp_path):
    report = flow_errors.measure(estimate(0.5), Flowing(), protocol(), {}, "spynet")
    assert report.errors == {"a": 0.5, "b": 0.5} and report.still == {"a": 3.0, "b": 3.0}
    assert report.mean == 0.5
    rows = report.table().splitlines()[3:]
    assert [row.split()[1] for row in rows] == ["all", "moving", "tripod"]
    assert all("3.0000 | 0.5000" in row for row in rows)
    saved = json.loads(report.save(tmp_path / "flow").with_suffix(".json").read_text())
    assert saved["mean"] == 0.5 and saved["kind_of"] == {"a": "moving", "b": "tripod"}
