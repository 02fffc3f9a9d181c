"""Two processes, as two hosts of a Slurm job, train together."""

import os
import socket
import subprocess

import pytest
from test_train import REPOSITORY, command, finish, reports


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def host(index, port, *args, **changes):
    slurm = {
        "SLURM_JOB_ID": "1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
        "SLURM_STEP_NODELIST": "localhost",
        "JAX_COORDINATOR_PORT": str(port),
    }
    return subprocess.Popen(
        [*command(*args, **changes), "--distributed"],
        cwd=REPOSITORY,
        env={**os.environ, **slurm},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_hosts_give_the_losses_of_one(data_dir, tmp_path):
    changes = {"train.steps": 4, "eval.every": 2, "train.checkpoint_every": 2}
    alone = subprocess.Popen(
        command("swrn", data_dir, tmp_path / "one", **changes),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    finish(alone)
    port = free_port()
    hosts = [host(i, port, "swrn", data_dir, tmp_path / "two", **changes) for i in range(2)]
    outputs = [finish(process) for process in hosts]
    assert "on 2 cpu" in outputs[0] and "| swrn" in outputs[0]
    assert "step 4/4" not in outputs[1] and "| swrn" not in outputs[1]
    one, two = reports(tmp_path / "one"), reports(tmp_path / "two")
    assert one.keys() == two.keys()
    for step, values in one.items():
        for name, value in values.items():
            assert two[step][name] == pytest.approx(value, rel=1e-4), (step, name)
