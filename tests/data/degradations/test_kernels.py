"""Blur kernels, compared with the official numbers."""

import numpy as np
import pytest
import reference

from jaxvsr.data.degradations import gaussian_kernel, plateau_kernel, sinc_kernel


def make_kernel(spec):
    if spec["type"] == "sinc":
        return sinc_kernel(spec["kernel_size"], spec["omega"])
    make = plateau_kernel if spec["type"].startswith("plateau") else gaussian_kernel
    shape = {name: spec[name] for name in ("theta", "beta") if name in spec}
    return make(spec["kernel_size"], spec["sig_x"], spec.get("sig_y"), **shape)


def test_kernels_equal_the_golden_case():
    manifest, _, arrays = reference.load("degrade_real")
    config = manifest["config"]
    assert len(config["kernels"]) == 9
    for number, spec in enumerate(config["kernels"]):
        np.testing.assert_allclose(make_kernel(spec), arrays[f"kernel/{number}"], atol=1e-15)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gaussian_kernel(8, 1.0), ValueError, "odd, got 8"),
        (lambda: gaussian_kernel(7, 0.0), ValueError, "sigma"),
        (lambda: plateau_kernel(7, 1.0, -1.0), ValueError, "sigma"),
        (lambda: plateau_kernel(7, 1.0, beta=0), ValueError, "beta"),
        (lambda: sinc_kernel(7, 3.5), ValueError, "cutoff"),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()
