import numpy as np
import pytest
import scipy.io
from reference import GOLDEN
from scipy.ndimage import gaussian_filter

from jaxvsr.data.degradations import imresize
from jaxvsr.metrics import NiqeParameters, fit_niqe, niqe, read_niqe_parameters
from jaxvsr.metrics.niqe import _halve

PUBLISHED = GOLDEN / "niqe_parameters.npz"


def textured(seed, h=192, w=288, strength=0.12):
    """A frame with structure of all sizes, as photographs have it."""
    rng = np.random.default_rng(seed)
    plane = sum(
        gaussian_filter(rng.normal(size=(h, w)), size, mode="wrap") * size for size in (1, 2, 4, 8)
    )
    return np.repeat((0.5 + strength * plane)[..., None], 3, -1)


def blurred(frame, size):
    return gaussian_filter(frame, (size, size, 0))


@pytest.fixture(scope="module")
def fitted():
    return fit_niqe(textured(seed) for seed in range(8))


def test_the_second_scale_is_matlabs():
    luma = np.random.default_rng(0).uniform(0, 255, (96, 192)).astype(np.float32)
    np.testing.assert_allclose(_halve(luma), imresize(luma[..., None], 0.5)[..., 0], rtol=1e-4)


def test_parameters_are_read_from_either_file(tmp_path):
    stored = np.load(PUBLISHED)
    mean, covariance = stored["mu_pris_param"], stored["cov_pris_param"]
    path = tmp_path / "modelparameters.mat"
    scipy.io.savemat(path, {"mu_prisparam": mean, "cov_prisparam": covariance})
    for parameters in (read_niqe_parameters(PUBLISHED), read_niqe_parameters(str(path))):
        np.testing.assert_array_equal(parameters.mean, mean[0])
        np.testing.assert_array_equal(parameters.covariance, covariance)


def test_fitted_parameters_may_be_stored(tmp_path, fitted):
    path = tmp_path / "mine.npz"
    np.savez(path, mu_pris_param=fitted.mean, cov_pris_param=fitted.covariance)
    frame = textured(100)
    assert niqe(frame, read_niqe_parameters(path)) == niqe(frame, fitted)


def test_files_without_the_parameters_are_refused(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, mu_pris_param=np.zeros((1, 36)), weights=0)
    with pytest.raises(ValueError, match=r"lacks \['cov_pris_param'\].*'weights'"):
        read_niqe_parameters(path)
    path = tmp_path / "other.mat"
    scipy.io.savemat(path, {"x": 1})
    with pytest.raises(ValueError, match=r"lacks \['mu_prisparam', 'cov_prisparam'\].*\['x'\]"):
        read_niqe_parameters(path)
    path = tmp_path / "short.npz"
    np.savez(path, mu_pris_param=np.zeros((1, 35)), cov_pris_param=np.eye(36))
    with pytest.raises(
        ValueError, match=r"short.npz: .*mean has shape \(1, 35\); expected \(36,\)"
    ):
        read_niqe_parameters(path)
    with pytest.raises(ValueError, match="expected a .npz or .mat"):
        read_niqe_parameters("niqe.pth")
    with pytest.raises(FileNotFoundError):
        read_niqe_parameters(tmp_path / "none.npz")


@pytest.mark.parametrize("name", ["w.npz", "w.mat"])
@pytest.mark.parametrize("make", [b"<!doctype html>", b"", bytes(600), "npy", "bomb", "huge"])
def test_files_that_are_no_parameters_are_refused(tmp_path, name, make):
    path = tmp_path / name
    if make == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(36))
    elif make == "bomb":
        with path.open("wb") as file:
            np.savez_compressed(file, mu_pris_param=np.zeros(2**20))
    else:
        path.write_bytes(bytes(2**21) if make == "huge" else make)
    with pytest.raises(
        ValueError, match="w.* (cannot be read: it is damaged|is too large)"
    ) as error:
        read_niqe_parameters(path)
    assert "pickle" not in str(error.value)


def test_parameters_have_their_shapes():
    with pytest.raises(ValueError, match=r"covariance has shape \(36,\); expected \(36, 36\)"):
        NiqeParameters(np.zeros(36), np.zeros(36))
    with pytest.raises(ValueError, match="mean has values that are not finite"):
        NiqeParameters(np.full(36, np.nan), np.eye(36))


def test_blur_and_noise_are_less_natural_than_what_was_fitted(fitted):
    frame = textured(100)
    noise = np.random.default_rng(0).normal(0, 0.1, frame.shape)
    pristine = niqe(frame, fitted)
    assert pristine < niqe(blurred(frame, 1), fitted) < niqe(blurred(frame, 2), fitted)
    assert pristine < niqe(frame + noise, fitted)


def test_only_sharp_blocks_are_fitted():
    sharp, flat = textured(0, w=576), textured(1, w=576, strength=0.03)
    both = np.concatenate([sharp, flat])
    alone, together, all_blocks = (
        fit_niqe([frame], share) for frame, share in ((sharp, 0.75), (both, 0.75), (both, 0.0))
    )
    # The seam between the two moves the values a little.
    np.testing.assert_allclose(together.mean, alone.mean, atol=0.02)
    assert np.abs(all_blocks.mean - alone.mean).max() > 0.1


def test_what_is_beyond_whole_blocks_is_not_scored(fitted):
    frame = textured(3, 195, 300)
    other = frame.copy()
    other[192:] = other[:, 288:] = 0
    assert niqe(other, fitted) == niqe(frame, fitted) != niqe(frame, fitted, crop=1)


def test_a_frame_without_texture_has_no_score(fitted):
    frames = np.stack([np.zeros((192, 192, 3)), textured(0, 192, 192)])
    scores = niqe(frames, fitted)
    assert np.isnan(scores[0]) and np.isfinite(scores[1])


def test_frames_need_two_blocks(fitted):
    with pytest.raises(ValueError, match="95x300 are smaller than NIQE's block of 96x96"):
        niqe(np.zeros((95, 300, 3)), fitted)
    with pytest.raises(ValueError, match="94x190 are smaller"):
        niqe(np.zeros((96, 192, 3)), fitted, crop=1)
    with pytest.raises(ValueError, match="one block of 96x96; NIQE needs at least two"):
        niqe(np.zeros((191, 96, 3)), fitted)


def test_fits_need_images_with_blocks():
    with pytest.raises(ValueError, match="image 1: frames of 80x200 are smaller"):
        fit_niqe([textured(0), np.zeros((80, 200, 3))])
    with pytest.raises(ValueError, match=r"image 0: shape \(2, 192, .*; expected \(h, w, 3\)"):
        fit_niqe([np.zeros((2, 192, 192, 3))])
    with pytest.raises(ValueError, match="0 images have 0 usable"):
        fit_niqe([])
    with pytest.raises(ValueError, match="1 images have 0 usable"):
        fit_niqe([np.zeros((192, 192, 3))])
