"""What cannot work is found before any long work, and named."""

import collections
import re

import flax.linen as nn
import pytest

from configs import miavsr, swrn
from jaxvsr import models
from jaxvsr.config import defaults, save_config
from jaxvsr.data.sources import Clip
from jaxvsr.errors import InputError
from jaxvsr.evaluation.protocol import METRICS, Metric
from jaxvsr.preflight import (
    check_batch,
    check_clips,
    check_disk,
    check_given_weights,
    check_protocol,
    check_run,
    check_samples,
    check_scores,
    check_settings,
    create_model,
)


class Source:
    """Three clips, made up."""

    scale = 4
    degradation = "bicubic"
    clips = (Clip("a", 5, 48, 64), Clip("b", 5, 48, 64), Clip("c", 4, 64, 48))


class Interpolator(nn.Module):
    """Returns the mean of its two middle frames."""

    scale: int = 4

    @nn.compact
    def __call__(self, lq, train=False):
        t = lq.shape[1]
        if t % 2:
            raise ValueError(f"{t} frames have no middle two")
        return lq[:, t // 2 - 1 : t // 2 + 1].mean(1, keepdims=True)


def tiny(**changes):
    config = swrn.get_config("tiny")
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.batch": 0}, "data.batch=0 must be at least 1"),
        ({"data.workers": -1}, "data.workers=-1 must be at least 0"),
        ({"data.intervals": ()}, "data.intervals=.* must be integers >= 1"),
        ({"data.intervals": (1, -2)}, "data.intervals=.* must be integers >= 1"),
        ({"data.noise": (10.0,)}, "data.noise=.* must be two levels"),
        ({"data.noise": (30.0, 10.0)}, "must be two levels, the lower one first"),
        ({"data.gt_frames": (1,)}, "data.lq_frames=.* must both be frame indices"),
        ({"eval.lq_frames": (1,)}, "eval.lq_frames=.* must both be frame indices"),
        ({"data.lq_frames": (0, 4), "data.gt_frames": (2,)}, "below data.frames=4; got index 4"),
        (
            {"data.lq_frames": (0,), "data.gt_frames": (2,), "data.mirror": True},
            "data.mirror=True",
        ),
        ({"train.steps": 0}, "train.steps=0 must be at least 1"),
        ({"train.profile_steps": "100"}, "train.profile_steps='100' must be like"),
        ({"train.init_from": "a", "train.spynet_weights": "b"}, "not both"),
        ({"train.prune": 1.0}, "train.prune=1.0 must be a fraction"),
        ({"train.clusters": 1}, "train.clusters=1 must be 0 .off. or at least 2"),
        ({"train.prune": 0.5}, "fine-tune a network: set train.init_from"),
        ({"eval.every": 0}, "eval.every=0 must be at least 1"),
        ({"eval.noise": -1.0}, "eval.noise=-1.0 must be at least 0"),
        ({"eval.channel": "cb"}, "eval.channel='cb' must be 'rgb' or 'y'"),
        ({"eval.tile": (0, 8, 8), "eval.overlap": (0, 8, 8)}, "eval.tile and eval.overlap: .* 8"),
        ({"eval.multiple": (1, 0, 1)}, "eval.multiple=.* must be three integers >= 1"),
        ({"eval.input": "mirrored"}, "eval.input='mirrored' must be one of: plain, mirror, repeat"),
        ({"eval.metrics": ("ssim",)}, r"eval.metrics=\('ssim',\) must contain 'psnr'"),
        ({"eval.metrics": ("psnr", "niqe")}, "NIQE needs eval.niqe_parameters"),
        (
            {"eval.metrics": ("psnr", "niqe"), "eval.niqe_parameters": "no.npz"},
            "niqe_parameters.*no.npz",
        ),
        ({"eval.metrics": ("psnr", "tof"), "eval.frames": (1,)}, "tOF compares neighboring frames"),
        ({"eval.metrics": ("psnr", "lpip")}, "unknown metric 'lpip'.*; did you mean 'lpips'"),
        ({"eval.metrics": ("psnr", "lpips")}, "eval.lpips_weights must name two files"),
        (
            {"eval.metrics": ("psnr", "dists"), "eval.dists_weights": ("a.npz", "b.npz")},
            "eval.dists_weights=.*no file of weights a.npz",
        ),
        ({"eval.best": "gmsd"}, "must contain 'psnr' and eval.best='gmsd'"),
        ({"loss.terms.fff": 0.1}, "unknown term 'fff' in loss.terms; did you mean 'fft'"),
        ({"optim.name": "adm"}, "unknown optim.name='adm'; did you mean 'adam'"),
        ({"eval.space": 3}, "eval.space=3 must divide the number of devices"),
        (
            {"eval.lq_frames": (0,), "eval.gt_frames": (1,), "eval.input": "mirror"},
            "eval.gt_frames needs whole clips",
        ),
        (
            {"eval.lq_frames": (0,), "eval.gt_frames": (1,), "eval.tile": (0, 64, 64)},
            "eval.gt_frames needs whole clips",
        ),
    ],
)
def test_settings_that_cannot_work(changes, message):
    check_settings(tiny())
    with pytest.raises(InputError, match=message):
        check_settings(tiny(**changes))


def test_an_unknown_model_names_the_closest():
    with pytest.raises(InputError, match="'swnr'; did you mean 'swrn'"):
        create_model(tiny(**{"model.name": "swnr"}))


def test_a_batch_is_divided_among_devices_and_parts(monkeypatch):
    monkeypatch.setattr("jax.device_count", lambda: 3)
    with pytest.raises(InputError, match="data.batch=4 must be a multiple of 3: 3 devices"):
        check_batch(tiny())
    with pytest.raises(InputError, match="a multiple of 12: 3 devices times train.accumulate=4"):
        check_batch(tiny(**{"data.batch": 6, "train.accumulate": 4}))
    check_batch(tiny(**{"data.batch": 12, "train.accumulate": 4}))


@pytest.mark.parametrize("field", ["train.prune", "train.clusters"])
def test_zeros_and_clusters_cannot_begin_in_a_resumed_run(tmp_path, field):
    config = tiny()
    save_config(config, tmp_path)
    model = create_model(config)
    config.update_from_flattened_dict({field: type(config.train[field[6:]])(2)})
    with pytest.raises(InputError, match=f"another setting: *{field}: .*use another --workdir"):
        check_run(config, model, tmp_path, train=True)


def test_weights_of_spynet_are_there_where_a_new_run_needs_them(tmp_path):
    config = tiny(**{"train.init_from": "run"})
    assert config.train.spynet_weights == "builtin"  # also of models without SpyNet
    check_settings(config)
    check_given_weights(config, create_model(config), tmp_path)
    config = tiny(**{"train.spynet_weights": str(tmp_path / "flow.pth")})
    with pytest.raises(InputError, match="flow.pth' must be a file of official weights, or 'b"):
        check_given_weights(config, create_model(config), tmp_path)
    (tmp_path / "flow.pth").touch()
    with pytest.raises(InputError, match="flow.pth', but the model has no SpyNet"):
        check_given_weights(config, create_model(config), tmp_path)
    config.train.spynet_weights, config.train.edvr_weights = "", str(tmp_path / "flow.pth")
    with pytest.raises(InputError, match="edvr_weights=.*flow.pth', but the model has no EDVR"):
        check_given_weights(config, create_model(config), tmp_path)
    save_config(config, tmp_path)  # a resumed run needs none
    check_given_weights(config, create_model(config), tmp_path)


def test_the_folder_of_a_run(tmp_path, capsys):
    config = tiny()
    model = create_model(config)
    check_run(config, model, tmp_path / "new", train=True)
    with pytest.raises(InputError, match="new holds no run"):
        check_run(config, model, tmp_path / "new", train=False)
    save_config(config, tmp_path)
    check_run(config, model, tmp_path, train=False)
    check_run(tiny(**{"train.steps": 7}), model, tmp_path, train=True)
    assert "train.steps: 2000 there, 7 now" in capsys.readouterr().out
    with pytest.raises(InputError, match="model.dim: 16 there, 8 now"):
        check_run(tiny(**{"model.dim": 8}), model, tmp_path, train=True)


def test_a_model_without_parameters_is_scored_but_not_trained(tmp_path):
    config = tiny(**{"model": {"name": "bicubic", "scale": 4, "dtype": "float32"}})
    model = models.create("bicubic")
    check_run(config, model, tmp_path, train=False)
    with pytest.raises(InputError, match="'bicubic' has no parameters to train"):
        check_run(config, model, tmp_path, train=True)


@pytest.mark.parametrize(
    ("changes", "scale", "message"),
    [
        ({"crop": 52}, 4, "'a' .* is 48x64, smaller than the crop of 52x52"),
        ({"crop": 18}, 4, "data.crop=18 must be a multiple of the scale 4"),
        ({"frames": 6}, 4, "data.frames=6 frames; the longest has 5"),
        ({"intervals": (1, 2)}, 4, "data.frames=3 frames, 2 apart; the longest has 5"),
        ({}, 2, "has scale 4, the model has scale 2"),
        ({"lq_frames": (0, 1, 2), "gt_frames": (1,)}, 4, "lq_frames=.*: 3 frames have no middle"),
        ({"lq_frames": (0, 2), "gt_frames": (0, 1)}, 4, "gt_frames=.* must have 1 frames"),
    ],
)
def test_samples_that_a_data_set_does_not_have(changes, scale, message):
    data = defaults().data
    data.update(dataset="made up", frames=3, crop=16)
    check_samples(data, Source(), Interpolator())
    data.update(changes)
    with pytest.raises(InputError, match=message):
        check_samples(data, Source(), Interpolator(scale))


def protocol(**changes):
    section = defaults().eval
    section.update(dataset="made up", split="val", **changes)
    return section


@pytest.mark.parametrize(
    ("fields", "changes", "message"),
    [
        ({"scale": 2}, {}, "has scale 4, the model has scale 2"),
        ({}, {"frames": (4,)}, "name frame 4, but clip 'c' has 4 frames"),
        ({}, {"frames": (-1,)}, "clip 'c' has 4 frames"),
        ({"align": True}, {}, "cannot be scored: frames of 12x12 pixels are too small"),
    ],
)
def test_clips_that_cannot_be_scored(fields, changes, message):
    small = {"dim": 4, "depths": (1,), "num_heads": (1,), "mid_channels": 4, "align": False}
    check_clips(protocol(), Source(), models.create("iiavsr", **small))
    with pytest.raises(InputError, match=message):
        check_clips(protocol(**changes), Source(), models.create("iiavsr", **small | fields))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lq_frames": (0, 1, 2)}, "lq_frames=.*: 3 frames have no middle two"),
        ({"gt_frames": (1, 2)}, "eval.gt_frames=.* must have 1 frames, the number that the model"),
        ({"gt_frames": (5,)}, "name frame 5, but clip 'c' has 4"),
        ({"lq_frames": (0, 6)}, "name frame 6, but clip 'c' has 4"),
    ],
)
def test_clips_that_cannot_be_interpolated(changes, message):
    chosen = {"lq_frames": (0, 2), "gt_frames": (1,)}
    check_protocol(protocol(**chosen))
    check_clips(protocol(**chosen), Source(), Interpolator())
    with pytest.raises(InputError, match=message):
        check_clips(protocol(**chosen | changes), Source(), Interpolator())


def test_a_disk_without_space_for_the_checkpoints(tmp_path, monkeypatch):
    config = miavsr.get_config("tiny")
    model = create_model(config)
    usage = collections.namedtuple("usage", "total used free")
    free = 0
    asked = []

    def disk_usage(path):
        asked.append(path)
        return usage(2**40, 0, free)

    monkeypatch.setattr("shutil.disk_usage", disk_usage)
    with pytest.raises(InputError, match="has 0 MiB free; 4 checkpoints of .* MiB need") as error:
        check_disk(config, model, tmp_path / "not" / "there")
    assert asked == [tmp_path]  # the folder itself is not made
    needed = float(re.search(r"need (\d+) MiB", str(error.value))[1])
    free = (needed + 1) * 2**20
    check_disk(config, model, tmp_path)
    for step in (1, 2, 3):
        (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
    free = (needed / 4 + 1) * 2**20
    check_disk(config, model, tmp_path)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda sr, gt: sr.mean() - gt.mean(), r"own must return scores of the shape \(2,\)"),
        (lambda sr, gt: gt[:, 10, 12], "own cannot score frames of 48x11: IndexError"),
        (lambda sr: sr, "own cannot score frames of 48x11: TypeError"),
    ],
)
def test_metrics_are_tried_before_any_work(monkeypatch, score, message):
    monkeypatch.setitem(METRICS, "own", Metric("own", lambda eval_: score))
    with pytest.raises(InputError, match=message):
        check_scores(protocol(metrics=("psnr", "own")), 48, 11)
    with pytest.raises(InputError, match="ssim cannot score frames of 48x10: .* at least 11x11"):
        check_scores(protocol(), 48, 10)
    check_scores(protocol(crop=100, rounded=False), 720, 1280)


def test_a_field_that_only_the_users_code_reads_is_noted(capsys):
    check_settings(tiny())
    assert not capsys.readouterr().out
    check_settings(tiny(**{"optim.lr_step": (), "loss.cap": 0.1}))
    said = capsys.readouterr().out
    assert "note: optim.lr_step is no field of jaxvsr" in said and "is optim.lr_steps" in said
    assert "note: loss.cap is no field of jaxvsr" in said
