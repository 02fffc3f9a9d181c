"""Frames whose rows several devices share are restored as whole ones are."""

import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxvsr import models
from jaxvsr.config import defaults
from jaxvsr.distributed import spatial_sharding
from jaxvsr.errors import InputError
from jaxvsr.preflight import check_settings
from jaxvsr.upscale import Settings, upscale

QUICK = ["abpn", "afavsr", "bicubic", "fani", "mobile_rrn", "sort", "swat", "swrn", "vsr"]
SLOW = sorted(set(models.MODELS) - set(QUICK))


def assert_four_devices_agree_with_one(*cases):
    """Runs cases of divided.py, which compares the results."""
    command = [sys.executable, "-m", "tests.divided", *cases]
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_rows_move_between_devices():
    assert_four_devices_agree_with_one("layers")


def test_evaluation_and_streams():
    assert_four_devices_agree_with_one("users")


def test_networks_of_convolutions():
    assert_four_devices_agree_with_one(*QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_networks(name):
    assert_four_devices_agree_with_one(name)


def test_without_devices_to_share_nothing_is_done():
    x = np.ones((1, 40, 3, 2), np.float32)
    assert spatial_sharding.devices() == 1 and spatial_sharding.split(x) is x
    text = (
        jax.jit(lambda x: spatial_sharding.first(spatial_sharding.take(x, np.arange(40)), 40))
        .lower(x)
        .as_text()
    )
    assert "shard" not in text and "gather" not in text


@pytest.mark.parametrize("count", [0, -1, 3])
def test_devices_that_cannot_share(count):
    config = defaults()
    config.data.batch, config.eval.space = 24, count
    with pytest.raises(
        InputError, match=f"eval.space={count} must divide the number of devices .1.$"
    ):
        check_settings(config)
    frames, model = np.zeros((2, 64, 64, 3), np.uint8), models.create("bicubic")
    with pytest.raises(InputError, match=f"--space={count} must divide the number of devices .1.$"):
        upscale(frames, model, {}, Settings(space=count))
