import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import swrn
from jaxvsr import models
from jaxvsr.errors import InputError
from jaxvsr.training import checkpoints as module
from jaxvsr.training.state import TrainState, Weights


@pytest.fixture
def Checkpoints():
    """The class; what is opened is closed."""
    opened = []

    def open_them(*args, **kwargs):
        opened.append(module.Checkpoints(*args, **kwargs))
        return opened[-1]

    yield open_them
    for checkpoints in opened:
        checkpoints.close()


def make_state(step, value=0.0, ema=True, size=3):
    params = {"layer": {"kernel": jnp.full(size, value)}}
    return TrainState(
        step=jnp.int32(step),
        weights=Weights(
            params=params, batch_stats={}, ema=jax.tree.map(jnp.copy, params) if ema else {}
        ),
        opt_state=({"mu": jnp.ones(size)}, ()),
        rng=jax.random.key(3),
    )


def test_what_is_saved_comes_back(Checkpoints, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step() is None and checkpoints.best_step() is None
    state = make_state(5, 1.5)
    checkpoints.save(state, position=40)
    assert checkpoints.degradation(5) == "unknown"
    checkpoints.close()
    blank = jax.eval_shape(lambda: make_state(0))
    restored, position = Checkpoints(tmp_path).load(blank, 5)
    assert position == 40
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)
    weights = Checkpoints(tmp_path).load_weights(blank.weights, 5)
    np.testing.assert_array_equal(weights.variables["params"]["layer"]["kernel"], 1.5)


def test_the_latest_and_the_best_are_kept(Checkpoints, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, psnr in enumerate([20.0, 30.0, None, 25.0, 24.0, None], start=1):
        checkpoints.save(make_state(step), position=step, psnr=psnr)
    checkpoints.close()
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2", "5", "6"]
    again = Checkpoints(tmp_path, keep=2)
    assert (again.latest_step(), again.best_step()) == (6, 2)
    for step in (7, 8):
        again.save(make_state(step), position=step, psnr=21.0)
    again.close()
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2", "7", "8"]


def test_without_scores_the_latest_is_the_best(Checkpoints, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2):
        checkpoints.save(make_state(step), position=step)
    assert checkpoints.best_step() == 2


def test_a_step_is_saved_once(Checkpoints, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(make_state(1, 1.0), position=1)
    checkpoints.save(make_state(1, 2.0), position=1)
    weights = checkpoints.load_weights(jax.eval_shape(lambda: make_state(0)).weights, 1)
    np.testing.assert_array_equal(weights.params["layer"]["kernel"], 1)


@pytest.mark.parametrize("other", [{"ema": False}, {"size": 4}])
def test_another_tree_is_refused(Checkpoints, tmp_path, other):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(make_state(1), position=1)
    blank = jax.eval_shape(lambda: make_state(0, **other))
    with pytest.raises(InputError, match="checkpoint of step 1 .* does not fit"):
        checkpoints.load(blank, 1)


def test_what_a_killed_run_left_half_written_is_cleared_away(Checkpoints, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(make_state(1), position=1)
    checkpoints.close()
    half = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp-7"
    half.mkdir()
    (half / "weights").write_text("half")
    again = Checkpoints(tmp_path)
    assert again.latest_step() == 1
    again.save(make_state(2), position=2)
    again.close()
    assert not half.exists()


def contents(folder):
    """What a folder holds: path -> bytes and time of change."""
    return {
        path: (path.is_file() and path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def test_a_reader_changes_nothing(Checkpoints, tmp_path):
    """Neither what a training is writing at the moment, nor what it has written."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(make_state(1, 1.5), position=1)
    checkpoints.close()
    config = swrn.get_config("tiny")
    (tmp_path / "config.json").write_text(config.to_json())
    half = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp-7"
    half.mkdir()
    (half / "weights").write_text("half")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="does not fit"):
        module.load_best(config, models.create(**config.model), tmp_path)
    reader = Checkpoints(tmp_path, read_only=True)
    assert reader.best_step() == 1 and reader.degradation(1) == "unknown"
    weights = reader.load_weights(jax.eval_shape(lambda: make_state(0)).weights, 1)
    np.testing.assert_array_equal(weights.params["layer"]["kernel"], 1.5)
    assert contents(tmp_path) == before


def test_a_run_without_a_checkpoint_stays_without_the_folder(tmp_path):
    config = swrn.get_config("tiny")
    (tmp_path / "config.json").write_text(config.to_json())
    with pytest.raises(InputError, match="holds no checkpoint yet"):
        module.load_best(config, models.create(**config.model), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_a_disk_that_fills_up_is_explained(Checkpoints, tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)

    def full(*args, **kwargs):
        raise ValueError("RESOURCE_EXHAUSTED: ... write: No space left on device")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", full)
    with pytest.raises(InputError, match="disk of .* is full.*start again to resume"):
        checkpoints.save(make_state(1), position=1)
