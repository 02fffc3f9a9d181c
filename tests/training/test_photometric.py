"""Random changes of brightness, contrast, color, sharpness and noise."""

import jax
import numpy as np

from jaxvsr.training.photometric import photometric_changes


def test_the_frames_of_a_clip_change_together():
    frame = jax.random.uniform(jax.random.key(0), (16, 1, 8, 8, 3), minval=0.3, maxval=0.7)
    still = frame.repeat(3, axis=1)
    changed = np.asarray(jax.jit(photometric_changes)(still, jax.random.key(1)))
    assert changed.shape == still.shape and 0 <= changed.min() <= changed.max() <= 1
    by_frame = changed.mean((2, 3))  # of noise little is left
    assert np.abs(by_frame - np.asarray(still).mean((2, 3))).mean() > 0.03
    assert np.abs(by_frame - by_frame.mean(1, keepdims=True)).mean() < 0.01
    noisy = np.abs(np.diff(changed - by_frame[:, :, None, None], axis=1)).mean((1, 2, 3, 4)) > 0.01
    assert 2 < noisy.sum() < 14
