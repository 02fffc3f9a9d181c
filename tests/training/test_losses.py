"""Losses against their definition."""

import dataclasses

import classifiers
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import ndimage

from jaxvsr.config import defaults
from jaxvsr.errors import InputError
from jaxvsr.layers.sown import sown
from jaxvsr.metrics.vgg import VGG19
from jaxvsr.training import losses
from jaxvsr.training.losses import charbonnier
from jaxvsr.training.step import make_loss


@pytest.fixture
def loss():
    return defaults().loss


@pytest.fixture
def seen():
    """Frames of odd and even size, and a batch and values that a network sowed."""
    rng = np.random.default_rng(0)
    sr, gt = rng.random((2, 2, 3, 7, 6, 3), np.float32)
    return losses.Seen(sr, gt, {"flow": np.float32([3.0])}, {"flow": (jnp.float32([5.0]),)})


def values(seen, loss):
    """The terms, compiled together."""

    @jax.jit
    def compute(sr, gt):
        return losses.values(dataclasses.replace(seen, sr=sr, gt=gt), loss)

    return compute(seen.sr, seen.gt)


def levels_of(flow):
    """A pyramid of three levels of a flow (..., 8, 8, 2), by means."""
    *batch, _, _, _ = flow.shape
    return [
        flow.reshape(*batch, 8 // n, n, 8 // n, n, 2).mean((-4, -2)) / np.float32(n)
        for n in (1, 2, 4)
    ]


def test_the_multi_scale_end_point_error_is_least_for_the_true_flow():
    flow = np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype(np.float32)
    errors = [
        losses.flow.level_errors(levels_of(scale * flow), flow, np.ones((2, 8, 8)), 1.0)
        for scale in (1.0, 0.5, 0.0)
    ]
    assert errors[0] == pytest.approx(3 * 0.01, rel=1e-3)  # of three levels, smoothed near zero
    assert errors[0] < errors[1] < errors[2]


def test_the_end_point_error_compares_flows_with_the_neighbors_in_the_sample(loss):
    """The first forward and the last backward flow lead out of it; hidden pixels count less."""
    rng = np.random.default_rng(0)
    batch = {f"flow_{way}": rng.normal(size=(1, 3, 8, 8, 2)) for way in ("forward", "backward")}
    batch |= {f"visible_{way}": np.ones((1, 3, 8, 8)) for way in ("forward", "backward")}
    flow = np.stack([batch["flow_forward"][:, 1:], batch["flow_backward"][:, :-1]], 1)
    wrong = flow.copy()
    wrong[..., :4, :, :] += 3.0
    loss.terms = {"epe": 1.0}

    def error(flow, **changes):
        sown = {"flow_levels": tuple(map(jnp.float32, levels_of(flow)))}
        seen = losses.Seen(jnp.zeros(1), jnp.zeros(1), batch | changes, sown)
        return float(losses.values(seen, loss)["epe"])

    hidden = {"visible_forward": np.ones((1, 3, 8, 8))}
    hidden["visible_forward"][..., :4, :] = 0
    hidden["visible_backward"] = hidden["visible_forward"]
    assert error(flow) < error(wrong, **hidden) < error(wrong)
    for way, frame in (("forward", 0), ("backward", -1)):
        outside = batch[f"flow_{way}"].copy()
        outside[:, frame] += 9
        assert error(flow, **{f"flow_{way}": outside}) == error(flow)


def test_the_end_point_error_needs_flows(loss):
    loss.terms = {"epe": 1.0}
    flow = jnp.zeros((1, 2, 1, 48, 48, 2))
    flows = {
        f"{name}_{way}": jnp.zeros((1, 2, 48, 48, 2)[: 5 - (name == "visible")])
        for name in ("flow", "visible")
        for way in ("forward", "backward")
    }
    for aux, batch, message in (
        ({}, flows, "a network that sows flow_levels"),
        ({"flow_levels": (flow,)}, {}, "needs true flows: set data.flow=True"),
        ({"flow_levels": (flow,) * 6}, flows, "inputs of 48x48 must be multiples of 32"),
    ):
        with pytest.raises(ValueError, match=message):
            losses.values(losses.Seen(flow, flow, batch, aux), loss)


@pytest.mark.parametrize("eps", [1e-12, 1e-6, 1e-2])
def test_charbonnier_is_the_mean_over_pixels_of_each_frame(eps):
    rng = np.random.default_rng(0)
    sr, gt = rng.random((2, 2, 3, 4, 5, 3))
    expected = np.sqrt((sr - gt) ** 2 + eps).mean((2, 3, 4))
    loss = charbonnier(jnp.float32(sr), jnp.float32(gt), eps)
    assert loss.shape == (2, 3) and loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_charbonnier_has_a_gradient_where_the_output_is_right():
    x = jnp.full((1, 1, 2, 2, 3), 0.5)
    gradient = jax.grad(lambda sr: charbonnier(sr, x).sum())(x)
    np.testing.assert_array_equal(gradient, 0)


def test_charbonnier_is_computed_in_float32():
    gt = jnp.zeros((1, 1, 8, 8, 3))
    sr = jnp.full(gt.shape, 1 / 3, jnp.bfloat16)
    np.testing.assert_allclose(charbonnier(sr, gt), np.float32(sr[0, 0, 0, 0, 0]), rtol=1e-6)


def test_terms_are_their_definitions(seen, loss):
    loss.terms = dict.fromkeys(losses.TERMS.keys() - {"vgg", "epe"}, 0.5)
    loss.eps = 1e-6
    error = np.float64(seen.sr) - seen.gt
    spectra = [np.fft.fft2(np.float64(x), axes=(2, 3)) for x in (seen.sr, seen.gt)]
    change = spectra[0] - spectra[1]
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]).reshape(1, 1, 3, 3, 1) / 4
    gradients = [
        ndimage.correlate(error, k)[:, :, 1:-1, 1:-1] for k in (kernel, kernel.swapaxes(2, 3))
    ]
    expected = {
        "charbonnier": np.sqrt(error**2 + 1e-6).mean(),
        "l1": np.abs(error).mean(),
        "mse": (error**2).mean(),
        "fft": np.abs([change.real, change.imag]).mean(),
        "fft_amplitude": np.abs(np.abs(spectra[0]) - np.abs(spectra[1])).mean(),
        "sobel": np.abs(gradients).mean(),
    }
    found = values(seen, loss)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-5), name
    loss.sum_frames = True
    for name, value in values(seen, loss).items():
        assert float(value) == pytest.approx(3 * expected[name], rel=1e-5), name


def test_a_term_uses_the_batch_and_what_the_network_sowed(seen, loss, monkeypatch):
    def end_point_error(seen, loss):
        return jnp.abs(seen.batch["flow"] - sown(seen.aux, "flow")[0])

    monkeypatch.setitem(losses.TERMS, "end_point_error", end_point_error)
    loss.terms = {"end_point_error": 1.0, "l1": 0.0}
    losses.check_terms(loss, 64)
    assert losses.values(seen, loss) == {"end_point_error": 2.0}


def test_a_loss_is_the_weighted_sum_of_its_terms_and_logs_each(loss):
    class Gray(nn.Module):
        def __call__(self, lq, train):
            return jnp.full((1, 1, 16, 16, 3), 0.5)

    loss.terms = {"l1": 2.0, "sobel": 0.01}
    loss.peak = 255.0
    rng = np.random.default_rng(0)
    batch = {
        "lq": rng.integers(0, 256, (1, 1, 4, 4, 3), np.uint8),
        "gt": rng.integers(0, 256, (1, 1, 16, 16, 3), np.uint8),
    }
    compute = jax.jit(make_loss(Gray(), loss))
    total, (_, metrics) = compute({}, {}, batch, jax.random.key(0))
    error = np.abs(127.5 - batch["gt"]).mean()
    assert float(metrics["l1"]) == pytest.approx(error, rel=1e-5)
    expected = 2 * float(metrics["l1"]) + 0.01 * float(metrics["sobel"])
    assert float(total) == pytest.approx(expected, rel=1e-6)
    assert metrics["pixel_loss"] == metrics["loss"] == total and "charbonnier" not in metrics


SMALL = (4, 6, 6, 6, 6)  # channels of a small VGG


def test_the_perceptual_term_compares_features_before_their_relu(tmp_path, loss, monkeypatch):
    monkeypatch.setattr("jaxvsr.metrics.vgg.CHANNELS", SMALL)
    tensors = classifiers.vgg(VGG19, SMALL)
    loss.terms, loss.vgg_layers = {"vgg": 1.0}, {"conv1_1": 0.5, "conv1_2": 2.0}
    loss.peak = 255.0
    loss.vgg_weights = str(tmp_path / "vgg19.safetensors")
    save_file(tensors, loss.vgg_weights)
    losses.check_terms(loss, 64)
    sr, gt = np.random.default_rng(0).random((2, 1, 2, 16, 16, 3))
    value = values(losses.Seen(255 * sr, 255 * gt, {}, {}), loss)["vgg"]

    def convolve(x, index):
        kernel, bias = (np.float64(tensors[f"features.{index}.{k}"]) for k in ("weight", "bias"))
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), (1, 2)
        )
        return np.einsum("nhwcij,ocij->nhwo", windows, kernel, optimize=True) + bias

    expected = 0.0
    x, y = ((z[0] - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225] for z in (sr, gt))
    x, y = convolve(x, 0), convolve(y, 0)
    expected += 0.5 * np.abs(x - y).mean()
    x, y = (convolve(np.maximum(z, 0), 2) for z in (x, y))
    expected += 2 * np.abs(x - y).mean()
    assert float(value) == pytest.approx(expected, rel=1e-4)
    loss.vgg_layers = {"conv5_5": 1.0}
    with pytest.raises(InputError, match="unknown layer 'conv5_5'.*did you mean 'conv5_4'"):
        losses.check_terms(loss, 64)
    with pytest.raises(InputError, match="data.crop=8 must be at least 16 for the term vgg"):
        losses.check_terms(loss, 8)
    loss.vgg_layers = {}
    with pytest.raises(InputError, match="loss.vgg_layers has no layer with a weight"):
        losses.check_terms(loss, 64)
    save_file({"weight": np.zeros(2, np.float32)}, tmp_path / "other.safetensors")
    loss.vgg_weights = str(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"vgg_weights.*other.safetensors.*torchvision's VGG19"):
        losses.check_terms(loss, 64)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"charbonier": 1.0}, "unknown term 'charbonier' in loss.terms; did you mean 'charbonn"),
        ({"l1": float("nan")}, "loss.terms.l1=nan must be finite"),
        ({"l1": 0.0}, "loss.terms has no term with a weight"),
        ({}, "loss.terms has no term with a weight"),
        ({"vgg": 0.1}, "the term vgg needs loss.vgg_weights, a file"),
    ],
)
def test_terms_that_cannot_be_computed_are_refused(loss, terms, message):
    loss.terms = terms
    with pytest.raises(InputError, match=message):
        losses.check_terms(loss, 64)
