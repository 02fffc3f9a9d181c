"""Other tasks than enlarging: denoising, deblurring, interpolation of frames."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trees

from configs import swrn
from jaxvsr import models, train
from jaxvsr.config import defaults
from jaxvsr.data import pipeline
from jaxvsr.data.sources import Clip
from jaxvsr.evaluation import restoring, scoring
from jaxvsr.preflight import check_clips
from jaxvsr.training.step import batch_shapes, make_loss
from tfds_builders.frames import frames_dataset_builder


class Source:
    """Two grey clips of five frames, each frame of one value."""

    scale = 1
    degradation = "none"
    part = ""
    clips = (Clip("a", 5, 48, 40), Clip("b", 5, 48, 40))

    def read(self, clip, frames, top=0, left=0, size=(48, 40)):
        values = np.array([60 + 20 * frame + clip for frame in frames], np.uint8)
        gt = np.broadcast_to(values[:, None, None, None], (len(values), *size, 3)).copy()
        return {"gt": gt, "lq": gt}


class Told(nn.Module):
    """Gives what it is told of the noise: its level."""

    noise_level: bool = True
    scale: int = 1

    @nn.compact
    def __call__(self, lq, train=False):
        assert lq.shape[-1] == 3 + self.noise_level
        gain = self.param("gain", nn.initializers.ones, ())
        return gain * (jnp.repeat(lq[..., 3:], 3, -1) if self.noise_level else lq)


class Middle(nn.Module):
    """Interpolates: the mean of the middle two of its frames."""

    scale: int = 1

    @nn.compact
    def __call__(self, lq, train=False):
        t = lq.shape[1]
        if t % 2:
            raise ValueError(f"{t} frames have no middle two")
        return self.param("gain", nn.initializers.ones, ()) * lq[:, t // 2 - 1 : t // 2 + 1].mean(
            1, keepdims=True
        )


def protocol(**changes):
    section = defaults().eval
    section.update(dataset="made up", split="val", **{"overlap": (0, 0, 0)} | changes)
    return section


PARAMS = {"gain": jnp.ones(())}


def restorer(model):
    return restoring.make_restorer(model), {"params": PARAMS}


def score(model, **changes):
    run, variables = restorer(model)
    settings = protocol(**changes)
    return scoring.evaluate(run, Source(), settings, variables, name="model", baseline=True)


def test_noise_of_a_level_is_scored_as_published():
    result = score(Told(noise_level=False), noise=25.0)
    scores = result.scores["model"]["psnr"]["a"]
    np.testing.assert_allclose(scores, 20 * np.log10(255 / 25), atol=0.2)
    np.testing.assert_array_equal(result.scores["input"]["psnr"]["a"], scores)
    again = score(Told(noise_level=False), noise=25.0)
    np.testing.assert_array_equal(again.scores["model"]["psnr"]["a"], scores)
    assert result.title().endswith("all frames, RGB, noise of 25")


def test_noise_is_neither_rounded_nor_clipped_and_its_level_told():
    seen = {}

    def run(variables, lq):
        seen[lq.shape[1]] = np.asarray(lq)
        return lq[..., :3], None

    _, variables = restorer(Told())
    scoring.evaluate(run, Source(), protocol(noise=200.0, clips=1), variables)
    (lq,) = seen.values()
    assert lq.shape == (1, 5, 48, 40, 4) and lq.dtype == np.float32
    np.testing.assert_array_equal(lq[..., 3], np.float32(200 / 255))
    clean = Source().read(0, range(5))["gt"] / np.float32(255)
    noise = lq[0, ..., :3] - clean
    assert noise.std() == pytest.approx(200 / 255, rel=0.02) and lq.min() < -1 and lq.max() > 2
    values = 255 * lq[..., :3]
    assert np.abs(values - values.round()).max() > 0.4


def test_tiles_see_one_noise():
    whole = score(Told(noise_level=False), noise=25.0)
    tiled = score(Told(noise_level=False), noise=25.0, tile=(3, 24, 16), overlap=(2, 8, 4))
    for clip, scores in whole.scores["model"]["psnr"].items():
        np.testing.assert_allclose(tiled.scores["model"]["psnr"][clip], scores, rtol=1e-6)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_network_sees_the_level_if_it_is_told(channels):
    lq = jnp.full((1, 2, 4, 4, channels), 0.5)
    level = 0.5 if channels == 4 else 0.0
    np.testing.assert_array_equal(models.network_input(Told(), lq)[..., 3], level)
    assert models.network_input(Told(noise_level=False), lq).shape[-1] == 3
    frames = jnp.full((1, 2, 4, 4, 3), 51, jnp.uint8)
    np.testing.assert_allclose(models.network_input(Told(), frames)[..., :3], 0.2)


@functools.cache
def jitted_loss(model, noise):
    return jax.jit(make_loss(model, defaults().loss, noise))


def loss_of(model, noise, gt, batch=6, rng=0):
    frames = {"lq": np.full((batch, 2, 16, 16, 3), 100, np.uint8)}
    frames["gt"] = np.full_like(frames["lq"], gt)
    return jitted_loss(model, noise)(PARAMS, {}, frames, jax.random.key(rng))[0]


def test_training_adds_noise_of_the_level():
    noise = float(loss_of(Told(noise_level=False), (20.0, 20.0), gt=100))
    assert noise == pytest.approx(20 / 255 * np.sqrt(2 / np.pi), rel=0.02)
    assert float(loss_of(Told(noise_level=False), (), gt=100)) < 1e-5


def test_training_draws_a_level_for_each_sample():
    level = 255 * np.array([loss_of(Told(), (10.0, 40.0), 0, batch=1, rng=i) for i in range(40)])
    assert 10 < level.min() < 13 and 37 < level.max() < 40
    assert loss_of(Told(), (10.0, 40.0), 0, rng=3) == loss_of(Told(), (10.0, 40.0), 0, rng=3)
    mean = 255 * float(loss_of(Told(), (10.0, 40.0), 0, batch=200))
    assert mean == pytest.approx(25, abs=2)


def test_the_order_of_other_draws_stays_without_noise():
    """A run of before goes on to the same bits."""

    class Drawing(nn.Module):
        scale: int = 1

        @nn.compact
        def __call__(self, lq, train=False):
            gain = self.param("gain", nn.initializers.ones, ())
            return gain * jax.random.uniform(self.make_rng("gumbel"), lq.shape)

    rng = jax.random.key(0)
    expected = Drawing().apply(
        {"params": PARAMS}, jnp.zeros((6, 2, 16, 16, 3)), rngs={"gumbel": jax.random.split(rng)[0]}
    )
    assert float(loss_of(Drawing(), (), 0)) == pytest.approx(float(expected.mean()), rel=1e-5)


def test_frames_are_chosen_in_training():
    data = defaults().data
    data.update(frames=5, crop=16, batch=2, workers=0, lq_frames=(0, 1, 3, 4), gt_frames=(2,))
    (batch,) = itertools.islice(pipeline.training_batches(data, Source(), seed=0), 1)
    assert batch["lq"].shape == (2, 4, 16, 16, 3) and batch["gt"].shape == (2, 1, 16, 16, 3)
    values = batch["lq"][:, :, 0, 0, 0] // 20 * 20
    np.testing.assert_array_equal(values, [[60, 80, 120, 140]] * 2)
    np.testing.assert_array_equal(batch["gt"][:, 0, 0, 0, 0] // 20 * 20, [100, 100])
    frames = {key: jnp.asarray(batch[key]) for key in ("lq", "gt")}
    compute = make_loss(Middle(), defaults().loss)
    assert float(compute(PARAMS, {}, frames, jax.random.key(0))[0]) < 1e-5
    shapes = batch_shapes(data, 1)
    assert {key: shapes[key].shape for key in frames} == {key: x.shape for key, x in frames.items()}


CHOSEN = {"lq_frames": (0, 1, 3, 4), "gt_frames": (2,)}


def test_interpolated_frames_are_scored():
    check_clips(protocol(**CHOSEN), Source(), Middle())
    result = score(Middle(), **CHOSEN)
    assert (result.scores["model"]["psnr"]["a"] == 100).all()  # equal to the target
    # Beside it stands the input that is nearest.
    expected = 20 * np.log10(255 / 20)
    np.testing.assert_allclose(result.scores["input"]["psnr"]["b"], [expected], rtol=1e-6)
    assert "frames 2, RGB, from frames 0, 1, 3, 4" in result.title()
    assert result.csv().splitlines()[1].startswith("input,a,2,")
    assert set(result.drawn["best"]) == {"input", "sr", "gt"}


def test_denoising_from_files_to_scores(tmp_path):
    for clip, frame in itertools.product("ab", range(3)):
        trees.write(
            tmp_path / "gt" / clip / f"{frame}.png", trees.pixels([ord(clip), frame], 36, 40)
        )
    fields = {"gt": str(tmp_path / "gt"), "scale": 1, "degradation": "none", "val": ["b"]}
    config = frames_dataset_builder.FramesConfig(name="clean", **fields)
    trees.build(frames_dataset_builder.Builder(data_dir=tmp_path / "data", config=config))

    config = swrn.get_config("tiny")
    config.model.update(scale=1, dim=4, num_blocks=1)
    config.data.update(dataset="frames/clean", dir=str(tmp_path / "data"), noise=(0.0, 50.0))
    config.data.update(frames=2, crop=32, batch=2, workers=0)
    config.eval.update(dataset="frames/clean", split="val", noise=30.0)
    config.train.update(steps=2, log_every=1)
    result = train.train(config, tmp_path / "run")
    assert list(result.scores) == ["input", "swrn"]
    assert result.mean("input", "psnr") == pytest.approx(20 * np.log10(255 / 30), abs=1.5)
    names = {path.name for path in (tmp_path / "run" / "images").iterdir()}
    assert any(name.startswith("frames_clean_val_worst") for name in names)
    said = (tmp_path / "run/eval/frames_clean_val_00000002.md").read_text()
    assert "noise of 30, computed in float32" in said and "- noise: 30.0" in said
