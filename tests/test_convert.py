"""Official weights become a run's folder, which is scored and trained on from."""

import contextlib
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from ckpt import entry

from configs import basicvsr, swrn
from jaxvsr import convert, models, weights
from jaxvsr.config import load_config
from jaxvsr.distributed.mesh import make_mesh
from jaxvsr.errors import InputError
from jaxvsr.training import loop
from jaxvsr.training.checkpoints import Checkpoints, load_best
from jaxvsr.training.optimizer import make_optimizer

REPOSITORY = pathlib.Path(__file__).parents[1]
DIM = 8


def official(rng=0):
    """Weights of the tiny BasicVSR by their official names, in PyTorch's layout."""
    model = models.create(**config().model)
    shapes = jax.eval_shape(model.init, jax.random.key(0), models.example(model))
    rng, tensors = np.random.default_rng(rng), {}
    for place, leaf in weights.rules.places(shapes).items():
        value = rng.normal(size=leaf.shape).astype(np.float32)
        value = value.transpose(3, 2, 0, 1) if place.endswith("kernel") else value
        tensors[weights.TORCH["basicvsr"].official_name(place)] = value
    return tensors


def config(**fields):
    result = basicvsr.get_config("tiny")
    result.model.update(dim=DIM, depth=1, features_hr=DIM)
    result.update_from_flattened_dict(fields)
    return result


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "official.npz"
    np.savez(path, **official())
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs" / "one"


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def expected(tensors):
    return weights.from_torch(**config().model, state_dict=tensors)


def test_the_folder_is_a_run_that_evaluation_takes(source, out, capsys):
    convert.convert(config(), source, out)
    model = models.create(**config().model)
    step, variables, degradation = load_best(config(), model, out)
    assert (step, degradation) == (0, "")
    assert_equal(variables, expected(official()))
    assert sorted(p.name for p in out.iterdir()) == ["checkpoints", "config.json", "weights.txt"]
    assert [p.name for p in out.parent.iterdir()] == ["one"]  # nothing half made
    with pytest.raises(InputError, match=r"model.dim: 8 there, 16 now"):
        load_best(config(**{"model.dim": 16}), model, out)


def test_what_went_where_is_said(source, out, capsys):
    tensors = official() | {"spynet.mean": np.zeros(3, np.float32)}
    np.savez(source, **tensors)
    convert.convert(config(), source, out)
    said, text = capsys.readouterr().out, (out / "weights.txt").read_text().splitlines()
    count = sum(x.size for x in official().values())
    assert f"in all: {len(tensors) - 1} tensors, {count:,} parameters" in said
    assert "not used by the architecture: 1: spynet.mean" in said
    assert re.search(
        r"^head: 8 tensors, [\d,]+ parameters; conv_hr.bias -> head/conv_hr", said, re.M
    )
    assert len(said.splitlines()) < 10 < len(text) == len(tensors)
    assert "conv_last.weight -> head/conv_last/kernel (3, 3, 8, 3)" in text
    assert "spynet.mean -> not used by the architecture" in text


def test_every_kind_of_file_arrives(tmp_path):
    tensors = official()
    data = b"".join(entry(k, v.shape, "Float32", v.tobytes()) for k, v in tensors.items())
    (tmp_path / "w.ckpt").write_bytes(data)
    found = weights.from_file(path=tmp_path / "w.ckpt", **config().model)
    assert_equal(found, expected(tensors))
    torch = pytest.importorskip("torch")
    average = {k: torch.tensor(v) for k, v in official(1).items()}
    groups = {"params": {k: torch.tensor(v) for k, v in tensors.items()}, "params_ema": average}
    torch.save(groups, tmp_path / "w.pth")
    for group, rng in (("", 1), ("params", 0), ("params_ema", 1)):
        convert.convert(config(), tmp_path / "w.pth", tmp_path / f"run{group}", group)
        model = models.create(**config().model)
        _, variables, _ = load_best(config(), model, tmp_path / f"run{group}")
        assert_equal(variables, expected(official(rng)))


def test_a_checkpoint_of_tensorflow_arrives(tmp_path, out):
    tf = pytest.importorskip("tensorflow")
    _, tensors, _ = reference.load("mobile_swrn_tiny")
    # The names of tf.train are those of attributes: one of them is enough to see them through.
    root = tf.train.Checkpoint()
    for name, value in tensors.items():
        *path, last = name.split("/")
        node = root
        for part in path:
            if not hasattr(node, part):
                setattr(node, part, tf.train.Checkpoint())
            node = getattr(node, part)
        setattr(node, last, tf.Variable(value))
    tf.train.Checkpoint(model=root).write(str(tmp_path / "swrn"))
    convert.convert(swrn.get_config("tiny"), tmp_path / "swrn", out)
    _, variables, _ = load_best(swrn.get_config("tiny"), models.create("swrn"), out)
    assert_equal(variables, weights.from_tf("swrn", tensors))


def test_what_is_there_is_left_alone(source, out):
    out.mkdir(parents=True)
    (out / "mine").write_text("mine")
    with pytest.raises(InputError, match="runs/one exists: name a new folder"):
        convert.convert(config(), source, out)
    assert [p.name for p in out.iterdir()] == ["mine"]
    (out / "mine").unlink()
    convert.convert(config(), source, out)  # an empty folder is as good as none
    assert (out / "config.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "fusion.bias"}, "missing: fusion.bias"),
        (lambda t: t | {"predictor.weight": np.zeros(3)}, "left over: predictor.weight"),
        (lambda t: t | {"fusion.bias": np.zeros(3)}, r"another shape: fusion.bias \(3,\).*\(8,\)"),
    ],
)
def test_weights_that_do_not_fit_leave_nothing(change, message, source, out):
    np.savez(source, **change(official()))
    with pytest.raises(InputError, match=f"(?s)official.npz for model 'basicvsr'.*{message}"):
        convert.convert(config(), source, out)
    assert not out.parent.exists()


def test_damaged_weights_are_named_without_a_search(source, out, capsys):
    np.savez(source, **official() | {"fusion.bias": np.full(DIM, np.nan)})
    with pytest.raises(InputError, match="NaN or infinity in fusion.bias") as error:
        convert.convert(config(), source, out, known=known)
    assert "fit" not in str(error.value) and not out.parent.exists()


def test_a_moving_average_of_mmediting_is_taken_and_said(source, out, capsys):
    tensors = {f"generator.{name}": 0 * x for name, x in official().items()}
    tensors |= {f"generator_ema.{name}": x for name, x in official().items()}
    np.savez(source, **tensors, step_counter=np.ones(1))
    convert.convert(config(), source, out)
    _, variables, _ = load_best(config(), models.create(**config().model), out)
    assert_equal(variables, expected(official()))
    assert (
        "taking the weights 'generator_ema'; the file also holds generator"
        in capsys.readouterr().out
    )


def test_a_disk_that_fills_up_leaves_nothing(source, out, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", full)
    with pytest.raises(InputError, match="cannot be made: No space left on device. Nothing"):
        convert.convert(config(), source, out)
    assert not list(out.parent.iterdir())


def known():
    """Configs of small models by name."""
    names = [f"configs/{name}.py:tiny" for name in ("basicvsr", "swrn", "iconvsr")]
    found = {name: load_config(name) for name in names}
    found["configs/basicvsr.py:tiny"] = config()
    found["configs/basicvsr.py:large"] = config(**{"model.dim": 16})
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t, r"They fit --config=\S+basicvsr.py:tiny$"),
        (lambda t: t | {"a": 0}, r"9\d% of them fit --config=\S+basicvsr.py:tiny$"),
        (lambda t: {k: v.ravel() for k, v in t.items()}, "of model 'basicvsr', but of other sizes"),
        (lambda t: {"a": 0}, "fit no model that has a config"),
    ],
)
def test_which_model_weights_are_of(change, message):
    assert re.search(message, convert.likely(change(official()), known()))


def test_the_other_model_is_named_in_the_error(source, out):
    with pytest.raises(
        InputError, match=r"(?s)for model 'swrn'.*They fit --config=.*basicvsr.py:tiny"
    ):
        convert.convert(swrn.get_config("tiny"), source, out, known=known)


def test_a_damaged_best_checkpoint_is_replaced_by_the_latest(source, out, capsys):
    convert.convert(config(), source, out)
    with contextlib.closing(Checkpoints(out)) as checkpoints:
        state, _ = first_state(config(**{"train.init_from": str(source)}), out.parent)
        checkpoints.save(state.replace(step=jnp.int32(1)), 0, score=20.0)
        checkpoints.save(state.replace(step=jnp.int32(2)), 0, score=10.0)
    model = models.create(**config().model)
    assert load_best(config(), model, out)[0] == 1
    path = max((out / "checkpoints/1/weights/d").iterdir(), key=lambda p: p.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    before = sorted(out.rglob("*"))
    capsys.readouterr()
    step, variables, _ = load_best(config(), model, out)
    assert step == 2
    assert_equal(variables, expected(official()))
    said = capsys.readouterr().out
    assert "step 1: weights/d/" in said and "using step 2" in said and said.count("\n") == 1
    assert sorted(out.rglob("*")) == before  # a reader changes nothing


def first_state(config, workdir):
    model = models.create(**config.model)
    optimizer, _ = make_optimizer(config.optim, 10)
    checkpoints = Checkpoints(workdir)
    return loop.first_state(config, model, optimizer, checkpoints, make_mesh())


def test_a_training_starts_from_the_folder_or_the_file(source, out, tmp_path):
    convert.convert(config(), source, out)
    for i, (path, ema) in enumerate([(out, 0.0), (source, 0.9)]):
        asked = config(**{"train.init_from": str(path), "optim.ema": ema})
        workdir = tmp_path / str(i)
        workdir.mkdir()
        state, position = first_state(asked, workdir)
        assert position == 0 and int(state.step) == 0
        assert_equal({"params": state.weights.params}, expected(official()))
        assert bool(state.weights.ema) == bool(ema)
        if ema:
            assert_equal({"params": state.weights.ema}, expected(official()))


def test_a_run_that_goes_on_has_no_use_for_what_it_started_from(source, out, tmp_path):
    asked = config(**{"train.init_from": str(source)})
    state, _ = first_state(asked, tmp_path)
    state = state.replace(step=jnp.int32(3))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state, 12)
    checkpoints.close()
    source.unlink()
    again, position = first_state(asked, tmp_path)
    assert (int(again.step), position) == (3, 12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train.init_from": "nowhere.npz"}, "there is no file of weights nowhere.npz"),
        ({"train.init_from": "{tmp}"}, "holds no run"),
        ({"train.init_from": "{out}", "model.dim": 4}, "model.dim: 8 there, 4 now"),
        ({"train.init_from": "{source}", "model.dim": 4}, "of another shape: backward_trunk"),
    ],
)
def test_a_training_does_not_start_from_what_does_not_fit(fields, message, source, out, tmp_path):
    convert.convert(config(), source, out)
    places = {"tmp": tmp_path, "out": out, "source": source}
    fields = {k: v.format(**places) if isinstance(v, str) else v for k, v in fields.items()}
    with pytest.raises(InputError, match=message):
        first_state(config(**fields), tmp_path)


def test_converted_weights_are_no_run_to_go_on_with(source, out):
    convert.convert(config(), source, out)
    with pytest.raises(InputError, match="only weights.*--config.train.init_from="):
        first_state(config(), out)


def test_the_command_line(source, out):
    sizes = {"dim": DIM, "depth": 1, "features_hr": DIM}
    command = [
        *(sys.executable, "-m", "jaxvsr.convert", "--config=configs/basicvsr.py:tiny"),
        *(f"--config.model.{k}={v}" for k, v in sizes.items()),
        f"--source={source}",
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1 and "error: --out is missing" in done.stderr
    done = subprocess.run(
        [*command, f"--out={out}"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"--config.train.init_from={out}" in done.stdout
    assert (out / "checkpoints/0").is_dir()
