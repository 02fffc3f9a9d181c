"""python -m jaxvsr.main --config=configs/miavsr.py:tiny --workdir=runs/one [--mode=eval]"""

import pathlib

from absl import flags

from jaxvsr import cli

CONFIG = cli.define_config()
WORKDIR = flags.DEFINE_string("workdir", "", "The run's folder, new or to be gone on with")
HOSTS = cli.define_hosts()
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train, or score a run's checkpoint")


def main() -> None:
    """Trains or scores."""
    # Imported here: the processes that read data import this module, and need none of it.
    from jaxvsr import evaluate, train
    from jaxvsr.config import shared_fields
    from jaxvsr.distributed import hosts

    config, workdir = CONFIG.value, pathlib.Path(WORKDIR.value)
    run = {"train": train.train, "eval": evaluate.score_run}[MODE.value]
    told = {"mode": MODE.value, "workdir": str(workdir), **shared_fields(config)}
    with hosts.connected(HOSTS, told):
        run(config, workdir)


if __name__ == "__main__":
    cli.run(main, __doc__, ["config", "workdir"])
