"""Training as a user runs it: whole, broken off, on several devices, on bad input."""

import contextlib
import json
import os
import shutil
import signal
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import reference
from runs import REPOSITORY, STEPS, command, finish, reports, settings, start, wait_for

from configs import miavsr, swrn
from jaxvsr import models, train
from jaxvsr.distributed.mesh import make_mesh
from jaxvsr.errors import InputError
from jaxvsr.evaluation import scoring
from jaxvsr.training import loop
from jaxvsr.training.channels import prune_channels
from jaxvsr.training.checkpoints import Checkpoints, load_best
from jaxvsr.training.optimizer import make_optimizer
from jaxvsr.training.state import initial_state
from jaxvsr.weights.spynet import builtin_spynet

SCORES = "eval/dead_leaves_test_val"


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """An uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    return workdir, finish(start("swrn", data_dir, workdir, **{"train.profile_steps": "3:5"}))


def test_a_run_leaves_what_was_promised(whole):
    workdir, output = whole
    assert {"checkpoints", "config.json", "metrics.jsonl", "images"} <= set(os.listdir(workdir))
    assert any(name.startswith("events.out.tfevents") for name in os.listdir(workdir))
    assert json.loads((workdir / "config.json").read_text())["train"]["steps"] == STEPS
    values = reports(workdir)
    assert list(values) == list(range(1, STEPS + 1))
    for name in ("loss", "psnr", "keep_ratio", "grad_norm", "lr/rest"):
        assert f"train/{name}" in values[1]
    assert f"{SCORES}/psnr" in values[6] and f"{SCORES}/ssim" in values[STEPS]
    curves = f"-m tensorboard.main --logdir={workdir.parent}"
    for word in ("| bicubic", "| swrn", "picture, median: ", curves, "0:00:00", "restarts 0%"):
        assert word in output
    assert {"bicubic", "eval"} <= set(os.listdir(workdir))
    best = Checkpoints(workdir).best_step()
    assert (f"scoring step {best}" in output) == (best != STEPS)  # the last scores are at hand
    assert "Traceback" not in output


@pytest.mark.slow
def test_fine_tuning_keeps_zeros_clusters_and_fewer_channels(whole, data_dir, tmp_path):
    changes = {"train.steps": 3, "train.prune": 0.5, "train.clusters": 10}
    changes |= {"train.init_from": str(whole[0]), "eval.every": 3, "model.prune_channels": 0.5}
    finish(start("swrn", data_dir, tmp_path / "run", **changes))
    config = settings(swrn.get_config, data_dir, **changes)
    narrower = models.create(**config.model)
    _, after, _ = load_best(config, narrower, tmp_path / "run")
    config.model.prune_channels = 0.0
    model = models.create(**config.model)
    _, before, _ = load_best(config, model, whole[0])
    before = prune_channels(before, narrower)
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    kernels = [pair for pair in pairs if pair[0].ndim == 4]
    assert len(kernels) > 10 and sum(kernel.size for _, kernel in kernels) < 0.4 * 43_000
    for dense, kernel in kernels:
        assert (kernel == 0).mean() == pytest.approx(0.5, abs=0.01)
        assert len(np.unique(kernel)) <= 10
        assert np.abs(kernel - dense)[kernel != 0].min() > 0


def table_of(output):
    """The first rows of the table of scores."""
    return output[output.index("| bicubic") :].splitlines()[:2]


def test_killed_at_any_moment_it_goes_on_to_the_same_bits(whole, data_dir, tmp_path):
    workdir = tmp_path / "run"
    path = workdir / "metrics.jsonl"
    process = start("swrn", data_dir, workdir, **{"data.workers": 2})
    wait_for(lambda: path.exists() and path.read_text().count("\n") >= 5, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)  # ends when the processes that read have ended, too
    finish(start("swrn", data_dir, workdir))
    assert reports(workdir) == reports(whole[0])


def test_sigterm_saves_and_stops(whole, data_dir, tmp_path):
    workdir = tmp_path / "run"
    path = workdir / "metrics.jsonl"
    changes = {"train.checkpoint_every": 1000, "data.workers": 2}
    process = start("swrn", data_dir, workdir, **changes)
    wait_for(lambda: path.exists() and path.read_text().count("\n") >= 2, process)
    os.killpg(process.pid, signal.SIGSTOP)  # else its few steps may end before the next lines
    with pytest.raises(InputError, match=rf"process \({process.pid} on .*\) is training in"):
        train.train(settings(swrn.get_config, data_dir), workdir)
    os.killpg(process.pid, signal.SIGTERM)  # as schedulers do: the workers get it too
    os.killpg(process.pid, signal.SIGCONT)
    output = finish(process, 128 + signal.SIGTERM)
    stopped = Checkpoints(workdir).latest_step()
    assert f"saved at step {stopped}" in output and stopped == max(reports(workdir))
    finish(start("swrn", data_dir, workdir))
    assert reports(workdir) == reports(whole[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_first_step_saves_too(data_dir, tmp_path, number):
    """The processes that read are still starting then, and get the signal as well."""
    workdir = tmp_path / "run"
    process = start("swrn", data_dir, workdir, **{"data.workers": 2})
    wait_for(lambda: any(workdir.glob("events.out.tfevents*")), process)
    os.killpg(process.pid, number)
    output = finish(process, 128 + number)
    name = "SIGTERM" if number == signal.SIGTERM else "interrupted"
    stopped = Checkpoints(workdir).latest_step()
    assert f"{name}: saved at step {stopped}; run the same command again to resume" in output
    assert "Traceback" not in output and "Exception" not in output
    assert not (workdir / ".lock").exists()


def test_a_stop_while_scoring_leaves_the_score_to_the_next_start(data_dir, tmp_path, monkeypatch):
    changes = {"train.steps": 2, "train.checkpoint_every": 1, "eval.every": 1}
    config = settings(swrn.get_config, data_dir, **changes)
    evaluate, stops = scoring.evaluate, iter([True, True, False, True])

    def maybe_stopped(*args, **kwargs):
        if next(stops, False):
            signal.raise_signal(signal.SIGTERM)
            raise scoring.Stopped
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(scoring, "evaluate", maybe_stopped)
    for step in (1, 1, 2):  # the second start is stopped while it makes up for the first
        with pytest.raises(SystemExit):
            train.train(config, tmp_path)
        checkpoints = Checkpoints(tmp_path)
        assert checkpoints.latest_step() == step and not checkpoints.scored(step)
    train.train(config, tmp_path)
    scores = {step: values[f"{SCORES}/psnr"] for step, values in reports(tmp_path).items()}
    assert list(scores) == [1, 2]
    assert Checkpoints(tmp_path).best_step() == max(scores, key=scores.get)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits are of POSIX")
def test_a_checkpoint_that_cannot_be_written_is_one_line(data_dir, tmp_path):
    limited = ["sh", "-c", 'ulimit -f 40; exec "$@"', "sh"]  # blocks of 512 bytes
    words = [*limited, *command("swrn", data_dir, tmp_path / "run")]
    env = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, env=env)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr[-1000:]
    assert "run: a checkpoint could not be written: File too large. Earlier" in done.stderr


@pytest.mark.slow
def test_four_devices_give_the_losses_of_one(data_dir, tmp_path):
    changes = {"train.steps": 3, "data.crop": 64, "eval.every": 1000}
    runs = [
        start("miavsr", data_dir, tmp_path / str(devices), devices=devices, **changes)
        for devices in (1, 4)
    ]
    outputs = [finish(run) for run in runs]
    assert "on 4 cpu" in outputs[1]
    one, four = (reports(tmp_path / str(devices)) for devices in (1, 4))
    for step, values in one.items():
        for name in ("loss", "pixel_loss", "psnr", "keep_ratio"):
            tag = f"train/{name}"
            assert four[step][tag] == pytest.approx(values[tag], rel=1e-5), (step, name)
    # One clip on four devices is scored as on one.
    psnr = f"{SCORES}/psnr"
    assert four[3][psnr] == pytest.approx(one[3][psnr], rel=1e-5)


def test_a_finished_run_is_scored_again(whole, data_dir):
    workdir, output = whole
    again = finish(start("swrn", data_dir, workdir))
    assert table_of(again) == table_of(output)
    scored = [*command("swrn", data_dir, workdir), "--mode=eval"]
    done = subprocess.run(scored, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| bicubic" in done.stdout and "picture, worst: " in done.stdout


def test_another_model_is_refused_with_the_fields(whole, data_dir):
    config = settings(swrn.get_config, data_dir, **{"model.dim": 24, "optim.ema": 0.9})
    with pytest.raises(InputError, match=r"(?s)model.dim: 16 there, 24 .*optim.ema: 0.0 there"):
        train.train(config, whole[0])


def test_what_is_not_finite_stops_the_run_and_is_named(data_dir, tmp_path):
    config = settings(swrn.get_config, data_dir, **{"optim.lr": 1e30, "train.checkpoint_every": 1})
    with pytest.raises(FloatingPointError, match=r"step \d+: not finite in loss, cell/conv_first"):
        train.train(config, tmp_path)
    checkpoints = Checkpoints(tmp_path)
    step = checkpoints.latest_step()
    assert step is not None and step < STEPS
    optimizer, _ = make_optimizer(config.optim, STEPS)
    fresh = initial_state(models.create(**config.model), optimizer, 0, False)
    state, position = checkpoints.load(fresh, step)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.weights))
    assert position == 4 * step


def test_updates_that_overflow_are_never_saved(data_dir, tmp_path):
    config = settings(swrn.get_config, data_dir, **{"optim.lr": 1e39, "train.checkpoint_every": 1})
    for _ in range(2):  # a restart starts from finite values again
        with pytest.raises(FloatingPointError, match=r"step 1: not finite in weights/params/cell"):
            train.train(config, tmp_path)
        assert Checkpoints(tmp_path).latest_step() is None


def test_a_damaged_newest_checkpoint_costs_only_its_steps(whole, data_dir, tmp_path):
    workdir = shutil.copytree(whole[0], tmp_path / "run")
    newest = workdir / "checkpoints" / str(STEPS)
    path = max((newest / "training").rglob("*"), key=lambda p: p.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    output = finish(start("swrn", data_dir, workdir))
    assert f"step {STEPS}: training/" in output and "resuming from step 9" in output
    assert reports(workdir) == reports(whole[0])
    assert table_of(output) == table_of(whole[1])


def test_a_checkpoint_of_old_that_is_not_finite_is_passed_over(tmp_path, capsys):
    config = swrn.get_config("tiny")
    model = models.create(**config.model)
    optimizer, _ = make_optimizer(config.optim, STEPS)
    state = initial_state(model, optimizer, 0, bool(config.optim.ema))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state.replace(step=jnp.int32(1)), 4)
    checkpoints.close()
    # As version 0.1 wrote it: unchecked, without checksums.
    items = ocp.args.Composite(
        weights=ocp.args.StandardSave(jax.tree.map(lambda x: x * np.nan, state.weights)),
        training=ocp.args.StandardSave(state.replace(step=jnp.int32(2), weights=None)),
        data=ocp.args.JsonSave({"position": 8, "degradation": "bicubic"}),
    )
    with contextlib.closing(ocp.CheckpointManager(tmp_path / "checkpoints")) as manager:
        manager.save(2, args=items)
    checkpoints = Checkpoints(tmp_path)
    again, position = loop.first_state(config, model, optimizer, checkpoints, make_mesh())
    assert (int(again.step), position) == (1, 4)
    assert "step 2: not finite: weights/params/cell" in capsys.readouterr().out
    assert Checkpoints(tmp_path).latest_step() == 1


def test_a_trace_of_the_steps_that_were_asked_for(whole):
    workdir, output = whole
    assert f"trace: {workdir}/plugins/profile" in output
    assert list((workdir / "plugins" / "profile").glob("*/*.xplane.pb"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.dataset": "reds"}, "'reds' is not prepared"),
        ({"eval.dataset": "vimeo90k"}, "'vimeo90k' is not prepared"),
        ({"data.crop": 132}, "128x128, smaller than the crop of 132x132"),
        ({"train.steps": 0}, "train.steps=0 must be at least 1"),
        ({"train.spynet_weights": "builtins"}, "a file of official weights, or 'builtin'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(changes, message, data_dir, tmp_path):
    config = settings(swrn.get_config, data_dir, **changes)
    with pytest.raises(InputError, match=message):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_frames_too_small_for_the_model_are_refused(data_dir, tmp_path):
    config = settings(miavsr.get_config, data_dir, **{"model.align": True})
    with pytest.raises(InputError, match="32x32 .*64x64"):
        train.train(config, tmp_path / "run")


@pytest.mark.slow
def test_spynet_takes_its_weights_and_the_average_too(tmp_path):
    _, tensors, _ = reference.load("op_spynet")
    np.savez(tmp_path / "spynet.npz", **tensors)
    config = miavsr.get_config("tiny")
    config.model.align = True
    config.train.spynet_weights = str(tmp_path / "spynet.npz")
    model = models.create(**config.model)
    optimizer, _ = make_optimizer(config.optim, 10)
    checkpoints = Checkpoints(tmp_path)
    mesh = make_mesh()
    state, position = loop.first_state(config, model, optimizer, checkpoints, mesh)
    assert position == 0
    kernel = tensors["basic_module.5.basic_module.8.weight"].transpose(2, 3, 1, 0)
    for params in (state.weights.params, state.weights.ema):
        np.testing.assert_array_equal(params["spynet"]["level_5"]["conv_4"]["kernel"], kernel)
    config.train.spynet_weights = str(tmp_path / "none.npz")
    with pytest.raises(InputError, match="no file of weights .*none.npz"):
        loop.first_state(config, model, optimizer, checkpoints, mesh)


def test_spynet_starts_from_builtin_weights_or_zero_flow(tmp_path, capsys):
    config = miavsr.get_config("tiny")
    config.model.align = True
    model = models.create(**config.model)
    optimizer, _ = make_optimizer(config.optim, 10)
    given = Checkpoints(tmp_path), make_mesh()

    state, _ = loop.first_state(config, model, optimizer, *given)
    for params in (state.weights.params, state.weights.ema):
        jax.tree.map(np.testing.assert_array_equal, params["spynet"], builtin_spynet())
    assert capsys.readouterr().out == "SpyNet starts from built-in weights\n"

    config.train.spynet_weights = ""
    state, _ = loop.first_state(config, model, optimizer, *given)
    assert not np.any(state.weights.params["spynet"]["level_5"]["conv_4"]["kernel"])
    assert "zero flow" in capsys.readouterr().out

    config = miavsr.get_config("tiny")  # without SpyNet
    loop.first_state(config, models.create(**config.model), optimizer, *given)
    assert capsys.readouterr().out == ""
