"""Several processes, as the hosts of a Slurm job or with flags, train together."""

import os
import re
import shutil
import socket
import subprocess
import time

import pytest
import yaml
from test_train import REPOSITORY, command, finish, reports, wait_for

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


def by_flags(args):
    """The same."""
    port = free_port()
    flags = [f"--coordinator=localhost:{port}", "--processes=2"]
    return [start(2, args, {}, [*flags, f"--process={i}"]) for i in range(2)]


def assert_equal(one, two, tolerance):
    assert one.keys() == two.keys()
    for step, values in one.items():
        for name, value in values.items():
            assert two[step][name] == pytest.approx(value, rel=tolerance, abs=0), (step, name)


def test_two_hosts_give_the_losses_of_one(data_dir, tmp_path):
    changes = {"train.steps": 4, "eval.every": 2, "train.checkpoint_every": 2}
    finish(start(4, command("swrn", data_dir, tmp_path / "one", **changes), {}))
    hosts = by_slurm(command("swrn", data_dir, tmp_path / "two", **changes))
    outputs = [finish(process) for process in hosts]
    assert "on 4 cpu" in outputs[0] and "| swrn" in outputs[0]
    assert "step 4/4" not in outputs[1] and "| swrn" not in outputs[1]
    assert_equal(reports(tmp_path / "one"), reports(tmp_path / "two"), 1e-4)

    # Two clips, a host each; what the file of scores holds is that of one host.
    scored = [*command("swrn", data_dir, tmp_path / "one"), "--mode=eval"]
    scored.append("--config.eval.split=train")
    finish(start(1, scored, {}))
    table = tmp_path / "one" / "eval" / "dead_leaves_test_train_00000004.csv"
    alone = table.read_bytes()
    table.unlink()
    for process in by_flags(scored):
        finish(process)
    assert table.read_bytes() == alone and len(alone.splitlines()) > 2 * 2 * 3


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
    source = (REPOSITORY / "jaxvsr" / "main.py").read_text()
    known = {"config", *re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source)}
    assert {flag.split(".")[0] for flag in flags} <= known
    script = (LAUNCH / "slurm.sh").read_text()
    assert set(re.findall(r"--(\w+)", script.split("jaxvsr.main")[1])) <= known
