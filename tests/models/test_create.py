import subprocess
import sys

import flax.linen as nn
import pytest

from jaxvsr import models


def test_lists_are_taken_as_tuples():
    assert models.create("iiavsr", depths=[1, 2]).depths == (1, 2)


def test_an_unknown_model_or_field_is_refused_with_the_closest():
    with pytest.raises(ValueError, match="'mia'.*'miavsr'"):
        models.create("mia")
    with pytest.raises(ValueError, match="'depth'.*'depths'"):
        models.create("miavsr", depth=(6,))
    with pytest.raises(ValueError, match="'quux'.*num_heads"):
        models.create("miavsr", quux=1)


def test_a_model_says_its_scale(monkeypatch):
    class Unscaled(nn.Module):
        dim: int = 8

    monkeypatch.setitem(models.MODELS, "unscaled", Unscaled)
    with pytest.raises(ValueError, match="model 'unscaled' has no attribute `scale`"):
        models.create("unscaled")


def test_models_need_no_tensorflow():
    heavy = ["tensorflow", "tensorflow_datasets", "clu", "grain", "torch", "orbax"]
    code = (
        "import sys, jaxvsr.models, jaxvsr.weights;"
        f"loaded = [m for m in {heavy} if m in sys.modules];"
        "print(loaded); sys.exit(bool(loaded))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
