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


def test_an_unknown_network_lists_the_close_ones():
    with pytest.raises(ValueError, match=r"unknown network 'MVSR_13_9'.*MVSR_13_4"):
        mobile.get_config("MVSR_13_9")
    with pytest.raises(ValueError, match="no variant 'tny', .*'tiny'"):
        mobile.get_config("FANI,tny")
