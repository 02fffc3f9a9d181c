"""Small trainings, in processes of their own as a user starts them."""

import json
import os
import pathlib
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).parents[1]
STEPS = 12
SMALL = {
    "data.dataset": "dead_leaves/test",
    "data.frames": 3,
    "data.crop": 32,
    "data.batch": 4,
    "data.workers": 0,
    "eval.dataset": "dead_leaves/test",
    "eval.every": 6,
    "train.steps": STEPS,
    "train.log_every": 1,
    "train.checkpoint_every": 3,
}


def settings(get_config, data_dir, **changes):
    config = get_config("tiny")
    config.data.dir = str(data_dir)
    config.update_from_flattened_dict(SMALL | changes)
    return config


def command(config_file, data_dir, workdir, **changes):
    fields = {"data.dir": str(data_dir), **SMALL, **changes}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    return [
        sys.executable,
        "-m",
        "jaxvsr.main",
        f"--config=configs/{config_file}.py:tiny",
        f"--workdir={workdir}",
        *flags,
    ]


def start(*args, devices=1, **changes):
    flags = f"--xla_force_host_platform_device_count={devices}"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    return subprocess.Popen(
        command(*args, **changes),
        cwd=REPOSITORY,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process, code=0):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == code, output
    return output


def reports(workdir):
    """step -> what was reported of it, the times aside."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    merged = {}
    for line in lines:
        values = {k: v for k, v in line.items() if not k.startswith("time/")}
        merged.setdefault(line["step"], {}).update(values)
    return merged


def wait_for(condition, process):
    for _ in range(9000):
        if condition():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    raise AssertionError("it never came to it")
