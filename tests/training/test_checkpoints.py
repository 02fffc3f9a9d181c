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
        checkpoints.save(make_state(step), position=step, score=psnr)
    checkpoints.close()
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2", "5", "6"]
    again = Checkpoints(tmp_path, keep=2)
    assert (again.latest_step(), again.best_step()) == (6, 2)
    for step in (7, 8):
        again.save(make_state(step), position=step, score=21.0)
    again.close()
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2", "7", "8"]


def test_scores_of_another_metric_do_not_count(Checkpoints, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, psnr in ((1, 30.0), (2, 20.0)):
        checkpoints.save(make_state(step), position=step, score=psnr)
    checkpoints.close()
    again = Checkpoints(tmp_path, keep=2, metric="lpips")
    assert again.best_step() == 2 and not again.scored(2)
    for step, lpips in ((3, 0.2), (4, 0.3), (5, 0.4)):
        again.save(make_state(step), position=step, score=-lpips)
    again.close()
    assert Checkpoints(tmp_path, keep=2, metric="lpips").best_step() == 3
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["3", "4", "5"]


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
    with pytest.raises(
        InputError, match="could not be written: No space left on device.*start again to resume"
    ):
        checkpoints.save(make_state(1), position=1)


def flip(path, byte=None, bit=0):
    """Flips a bit of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if byte is None else byte] ^= 1 << bit
    path.write_bytes(data)


def files_of(folder):
    """The files of a checkpoint that are not empty."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)


@pytest.fixture
def two(tmp_path):
    """A run with checkpoints of steps 1 (the best) and 2."""
    checkpoints = module.Checkpoints(tmp_path)
    checkpoints.save(make_state(1, 1.0), position=10, score=30.0)
    checkpoints.save(make_state(2, 2.0), position=20, score=20.0)
    checkpoints.close()
    return tmp_path


def test_a_flipped_bit_in_any_file_is_found_or_harmless(Checkpoints, two):
    blank = jax.eval_shape(lambda: make_state(0))
    checkpoints = Checkpoints(two)
    assert checkpoints.latest_step() == 2
    rng = np.random.default_rng(0)
    found = 0
    for path in files_of(two / "checkpoints" / "2"):
        whole = path.read_bytes()
        flip(path, rng.integers(len(whole)), rng.integers(8))
        again = Checkpoints(two)
        latest = again.latest_step()
        if latest == 2:  # one of Orbax's notes, which are not read
            assert path.parent.name == "2"
            restored, position = again.load(blank, 2)
            assert position == 20
            np.testing.assert_array_equal(restored.weights.params["layer"]["kernel"], 2)
        else:
            assert latest == 1
            found += 1
        path.write_bytes(whole)
    assert found > 8


def test_a_lost_or_shortened_file_is_damage(Checkpoints, two):
    largest = max(files_of(two / "checkpoints/2/training"), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    assert Checkpoints(two).latest_step() == 1
    largest.unlink()
    assert Checkpoints(two).latest_step() == 1


def test_a_damaged_checkpoint_is_removed_and_written_again(Checkpoints, two, capsys):
    flip(two / "checkpoints/2/data/metadata")
    checkpoints = Checkpoints(two)
    checkpoints.remove_damaged()
    said = capsys.readouterr().out
    assert "step 2: data/metadata does not match its checksum; resuming from step 1" in said
    assert said.count("\n") == 1
    checkpoints.save(make_state(2, 5.0), position=20)
    checkpoints.close()
    weights = Checkpoints(two).load_weights(jax.eval_shape(lambda: make_state(0)).weights, 2)
    np.testing.assert_array_equal(weights.params["layer"]["kernel"], 5)


def test_the_best_does_not_count_once_it_is_damaged(Checkpoints, two):
    flip(two / "checkpoints/1/metrics/metrics")
    assert Checkpoints(two).best_step() == 2


def test_if_all_are_damaged_nothing_is_removed(Checkpoints, two):
    for step in (1, 2):
        flip(two / f"checkpoints/{step}/weights/_METADATA")
    with pytest.raises(InputError, match="no checkpoint of .* can be used: step 1: weights/_MET"):
        Checkpoints(two).latest_step()
    assert module.steps_in(two / "checkpoints") == [1, 2]


def test_a_single_checkpoint_to_keep_still_leaves_one_to_fall_back_on(Checkpoints, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step in (1, 2, 3):
        checkpoints.save(make_state(step), position=step)
    checkpoints.close()
    assert module.steps_in(tmp_path / "checkpoints") == [2, 3]


def test_a_score_is_added_to_a_checkpoint_without_one(Checkpoints, two):
    checkpoints = Checkpoints(two)
    checkpoints.save(make_state(3), position=30)
    checkpoints.close()
    checkpoints = Checkpoints(two)
    for psnr in (None, np.inf):
        checkpoints.add_score(3, psnr)
        assert not checkpoints.scored(3)
    checkpoints.add_score(3, 31.5)
    again = Checkpoints(two)
    assert again.scored(3) and (again.latest_step(), again.best_step()) == (3, 3)
    flip(two / "checkpoints/3/metrics/metrics")
    assert Checkpoints(two).latest_step() == 2


def test_checkpoints_without_checksums_are_read(Checkpoints, two):
    """Those of version 0.1."""
    (two / "checkpoints/2/checksums.json").unlink()
    checkpoints = Checkpoints(two)
    assert (checkpoints.latest_step(), checkpoints.best_step()) == (2, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["params", "ema", "mu"])
def test_a_state_that_is_not_finite_is_not_saved(Checkpoints, tmp_path, part, value):
    state, bad = make_state(3), jnp.array([0, value, 1.0])
    if part == "mu":
        state = state.replace(opt_state=({"mu": bad}, ()))
    else:
        state = state.replace(weights=state.weights.replace(**{part: {"layer": {"kernel": bad}}}))
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(FloatingPointError, match=f"step 3 is not saved, .*not finite: .*{part}"):
        checkpoints.save(state, position=1)
    checkpoints.close()
    assert module.steps_in(tmp_path / "checkpoints") == []


def test_a_score_that_is_not_finite_is_no_best(Checkpoints, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step, psnr in enumerate([30.0, np.inf, np.nan], start=1):
        checkpoints.save(make_state(step), position=step, score=psnr)
    checkpoints.close()
    assert Checkpoints(tmp_path).best_step() == 1
