import dataclasses

import pytest

from configs import mobile, swrn
from jaxvsr import models
from jaxvsr.config import defaults, fields
from jaxvsr.preflight import check_settings


@pytest.mark.parametrize("network", mobile.NETWORKS)
def test_every_network_has_a_whole_config(network):
    config = mobile.get_config(network)
    expected = {path for path, _ in fields(defaults()) if path[:5] != "model"}
    assert {path for path, _ in fields(config) if path[:5] != "model"} == expected
    check_settings(config)
    model = models.create(**config.model)
    for field in dataclasses.fields(model):
        if field.name not in ("parent", "name"):
            assert getattr(model, field.name) == config.model[field.name]
    name, changes = mobile.NETWORKS[network]
    assert {"name": name, **changes}.items() <= config.model.to_dict().items()


@pytest.mark.parametrize("recipe", ["reds", "vimeo", "tiny"])
def test_swrn_is_the_mobile_one(recipe):
    assert swrn.get_config(recipe) == mobile.get_config(f"SWRN,{recipe}")
    assert mobile.get_config("SWRN") == mobile.get_config("SWRN,reds")
    benchmark = mobile.get_config(f"SWRN,{recipe},vid4").eval
    assert (benchmark.dataset, benchmark.channel) == ("test_sets/vid4", "y")


@pytest.mark.parametrize(
    ("network", "batch", "steps", "lr", "lr_steps"),
    [
        ("FANI", 4, 50_000, 1e-3, ((20_000, 5e-4), (30_000, 2.5e-4), (40_000, 1e-4))),
        ("MVSR_13_4", 4, 50_000, 1e-3, ((20_000, 5e-4), (30_000, 2.5e-4), (40_000, 1e-4))),
        ("MobileRRN", 4, 1_500_000, 1e-4, ((1_000_000, 1e-5),)),
        (
            "SWRN",
            16,
            250_000,
            1e-3,
            ((40_000, 5e-4), (100_000, 2.5e-4), (150_000, 1e-4), (200_000, 5e-5)),
        ),
    ],
)
def test_the_published_recipes(network, batch, steps, lr, lr_steps):
    config = mobile.get_config(network)
    assert (config.data.batch, config.train.steps, config.optim.lr) == (batch, steps, lr)
    assert config.optim.lr_steps == lr_steps
    assert (config.data.frames, config.data.crop // config.model.scale) == (10, 64)
    assert (config.optim.b1, config.optim.b2, config.optim.eps) == (0.9, 0.999, 1e-7)
    assert (config.loss.eps, config.loss.peak, config.loss.sum_frames) == (1e-6, 255, True)
    assert config.optim.ema == 0


def test_an_unknown_network_lists_the_close_ones():
    with pytest.raises(ValueError, match=r"unknown network 'MVSR_13_9'.*MVSR_13_4"):
        mobile.get_config("MVSR_13_9")
    with pytest.raises(ValueError, match="no variant 'tny', .*'tiny'"):
        mobile.get_config("FANI,tny")
