"""Several processes, as the hosts of a Slurm job or with flags, train together."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import videos
import yaml
from runs import REPOSITORY, command, finish, reports, wait_for

LAUNCH = REPOSITORY / "launch"


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def start(devices, args, env, flags=()):
    flag = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [*args, *flags],
        cwd=REPOSITORY,
        env={**os.environ, "XLA_FLAGS": flag, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def by_slurm(args):
    """Two processes of two devices each."""
    port = str(free_port())
    return [
        start(
            2,
            args,
            {
                "SLURM_JOB_ID": "1",
                "SLURM_NTASKS": "2",
                "SLURM_PROCID": str(i),
                "SLURM_LOCALID": str(i),
                "SLURM_STEP_NODELIST": "localhost",
                "JAX_COORDINATOR_PORT": port,
                "JAX_LOCAL_DEVICE_IDS": "0,1",
            },
            ["--distributed"],
        )
        for i in range(2)
    ]


def by_flags(args, *others, devices=2):
    """The same; what the second one is told besides."""
    port = free_port()
    flags = [f"--coordinator=localhost:{port}", "--processes=2"]
    return [
        start(devices, args, {}, [*flags, f"--process={i}", *more])
        for i, more in enumerate(((), others))
    ]


def assert_equal(one, two, tolerance):
    assert one.keys() == two.keys()
    for step, values in one.items():
        for name, value in values.items():
            assert two[step][name] == pytest.approx(value, rel=tolerance, abs=0), (step, name)


@pytest.mark.slow
def test_two_hosts_give_the_losses_of_one(data_dir, tmp_path):
    changes = {"train.steps": 4, "eval.every": 2, "train.checkpoint_every": 2}
    finish(start(4, command("swrn", data_dir, tmp_path / "one", **changes), {}))
    hosts = by_slurm(command("swrn", data_dir, tmp_path / "two", **changes))
    outputs = [finish(process) for process in hosts]
    assert "on 4 cpu" in outputs[0] and "| swrn" in outputs[0]
    assert "step 4/4" not in outputs[1] and "| swrn" not in outputs[1]
    assert_equal(reports(tmp_path / "one"), reports(tmp_path / "two"), 1e-4)


@pytest.mark.slow
def test_hosts_share_the_clips_that_are_scored(data_dir, tmp_path):
    """Two clips, a host each; the file of scores is that of one host."""
    run = tmp_path / "run"
    training = command("swrn", data_dir, run, **{"train.steps": 1, "train.checkpoint_every": 1})
    finish(start(1, training, {}))
    scored = [*training, "--mode=eval", "--config.eval.split=train"]
    finish(start(1, scored, {}))
    table = run / "eval" / "dead_leaves_test_train_00000001.csv"
    alone = table.read_bytes()
    table.unlink()
    for process in by_flags(scored):
        finish(process)
    assert table.read_bytes() == alone and len(alone.splitlines()) > 2 * 2 * 3


def test_hosts_share_a_video(tmp_path):
    """Segments, a half each; they are those of one host with as many devices, to the bit."""
    source = videos.write(tmp_path / "a.mkv", videos.blocks(22), sound=True)

    def command(output, *flags):
        cut = ["--chunk=8", "--overlap=4", "--tile=64x48", "--segment=5", "--lossless"]
        return [sys.executable, "-m", "jaxvsr.upscale", source, tmp_path / output, *cut, *flags]

    finish(start(2, command("one.mkv"), {}))
    first, second = (finish(process) for process in by_flags(command("two.mkv"), devices=1))
    assert "15 frames in" in first and "written" in first and "frames" not in second
    one, two = (videos.read(tmp_path / name) for name in ("one.mkv", "two.mkv"))
    np.testing.assert_array_equal(two.frames, one.frames)
    assert two.times == one.times and two.sound == one.sound and len(two.frames) == 22
    assert not list(tmp_path.glob("*.parts"))


def test_a_host_that_cannot_start_does_not_keep_the_others(data_dir, tmp_path):
    args = command("swrn", data_dir, tmp_path / "run")
    port = free_port()
    flags = [f"--coordinator=localhost:{port}", "--processes=2"]
    there = start(2, args, {}, [*flags, "--process=0"])
    without = [*flags, "--process=1", "--config.data.dir=/nowhere"]
    output = finish(start(2, args, {}, without), code=1)
    assert re.search(r"^error: .*is not prepared", output, re.MULTILINE)
    begin = time.monotonic()
    there.communicate(timeout=60)
    assert there.returncode != 0 and time.monotonic() - begin < 60


def test_different_settings_are_found_at_the_start(data_dir, tmp_path):
    args = command("swrn", data_dir, tmp_path / "run")
    begin = time.monotonic()
    both = by_flags(args, "--config.train.steps=13", "--config.optim.lr=1.0")
    for output in [finish(process, code=1) for process in both]:
        assert re.search(
            r"^error: .* started with different settings:\n"
            r"  optim.lr: 0.001 in process 0; 1.0 in process 1\n"
            r"  train.steps: 12 in process 0; 13 in process 1\n",
            output,
            re.MULTILINE,
        ), output
    assert time.monotonic() - begin < 60 and not (tmp_path / "run").exists()


@pytest.mark.parametrize("process", [0, 1])
def test_a_host_that_finds_no_other_says_so_and_ends(process, data_dir, tmp_path):
    args = command("swrn", data_dir, tmp_path / "run")
    place = f"localhost:{free_port()}"
    flags = [f"--coordinator={place}", "--processes=2", f"--process={process}"]
    output = finish(start(2, args, {}, [*flags, "--connect_timeout=2"]), code=1)
    _, message = output.splitlines()  # after the first words
    said = (
        f"error: process {process} of 2 has not found the others within 2 s: either .* at {place}, "
    )
    assert re.match(said, message) and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_lost_host_ends_the_run_which_then_goes_on(data_dir, tmp_path):
    changes = {"train.steps": 30, "eval.every": 15, "train.checkpoint_every": 5}
    for process in by_flags(command("swrn", data_dir, tmp_path / "whole", **changes)):
        finish(process)
    run = tmp_path / "run"
    args = command("swrn", data_dir, run, **changes)
    hosts = by_flags(args)
    lines = run / "metrics.jsonl"
    wait_for(lambda: lines.exists() and len(lines.read_text().splitlines()) > 7, hosts[0])
    hosts[1].kill()
    output, _ = hosts[0].communicate(timeout=60)
    assert hosts[0].returncode != 0
    assert "another" in output and "step 30/30" not in output
    shutil.copytree(run, tmp_path / "fewer")

    for process in by_flags(args):
        finish(process)
    whole = reports(tmp_path / "whole")
    assert_equal(whole, reports(run), 0)
    finish(start(2, command("swrn", data_dir, tmp_path / "fewer", **changes), {}))
    # Other sums, other roundings, which training makes grow: the first steps tell.
    fewer = {step: values for step, values in reports(tmp_path / "fewer").items() if step <= 12}
    assert_equal({step: whole[step] for step in fewer}, fewer, 1e-4)


def test_the_launch_files_are_whole():
    subprocess.run(["bash", "-n", LAUNCH / "slurm.sh"], check=True)
    jobset = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    flags = dict(a.removeprefix("--").split("=", 1) for a in container["command"] if "=" in a)
    name, replicated = jobset["metadata"]["name"], jobset["spec"]["replicatedJobs"][0]["name"]
    assert flags["coordinator"].startswith(f"{name}-{replicated}-0-0.{name}:")
    assert int(flags["processes"]) == job["completions"] == job["parallelism"]
    assert flags["process"] == f"$({container['env'][0]['name']})"
    from jaxvsr import main

    known = set(main.command("main").flags)
    assert {flag.split(".")[0] for flag in flags} <= known
    script = (LAUNCH / "slurm.sh").read_text()
    assert set(re.findall(r"--(\w+)", script.split("jaxvsr.main")[1])) <= known
