"""Gated computation in upscale."""

import jax
import numpy as np
import pytest
from clips import finish, start

from jaxvsr import models
from jaxvsr.upscaling import gated

clock = [0.0]


def slow(seconds, name, calls):
    def program(x):
        calls.append(name)
        clock[0] += seconds
        return np.full(1, x)

    return program


@pytest.mark.parametrize("gated_seconds", [0.0, 0.04])
def test_the_faster_program_is_used_from_the_second_call_on(gated_seconds, monkeypatch):
    monkeypatch.setattr(gated, "work_seconds", lambda: clock[0])
    calls, said = [], []
    compiled = lambda: calls.append("compiled") or slow(gated_seconds, "gated", calls)  # noqa: E731
    program = gated.FasterProgram(slow(0.01, "dense", calls), compiled, said.append)
    assert [program(i).item() for i in range(4)] == [0, 1, 2, 3]
    faster = "gated" if not gated_seconds else "dense"
    assert calls == ["dense", "compiled", "gated", "gated", "dense", faster, faster]
    assert ("not used" in said[0]) == (faster == "dense") and len(said) == 1


def test_a_gated_program_that_needs_too_much_memory_is_not_used():
    calls, said = [], []
    program = gated.FasterProgram(slow(0, "dense", calls), lambda: None, said.append)
    assert [program(i).item() for i in range(3)] == [0, 1, 2]
    assert calls == ["dense"] * 3 and not said


def test_a_masked_network_gives_the_dense_result():
    sizes = {"dim": 4, "depths": (1,), "num_heads": (1,), "mid_channels": 4, "features_hr": 4}
    model = models.create("miavsr", **sizes, align=False, mask_start=0.05)
    clip = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    clip[:, :, 16:] = clip[:1, :, 16:]  # three quarters of the frame stand still
    variables = jax.jit(model.init)(jax.random.key(0), clip[None, :1] / np.float32(255))
    said = []
    sr = finish(start(model, variables, clip, said, chunk=3, overlap=0))
    assert sum("gated computation takes" in line for line in said) == 1
    dense = [model.apply(variables, clip[None, i : i + 3] / np.float32(255))[0] for i in (0, 3, 6)]
    expected = (np.concatenate(dense).clip(0, 1) * 255).round()
    assert np.abs(sr - expected).max() <= 1
    for unmasked in (model.clone(use_mask=False), model.clone(gating="bucketed")):
        assert gated.gated_form(unmasked) is None
    assert gated.gated_form(models.create("bicubic")) is None
