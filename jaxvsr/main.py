"""python -m jaxvsr.main --config=configs/miavsr.py:tiny --workdir=runs/one [--mode=eval]"""

import pathlib

from absl import flags

from jaxvsr import cli

CONFIG = cli.define_config()
WORKDIR = flags.DEFINE_string("workdir", "", "The run's folder, new or to be gone on with")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "This is one of several hosts' processes (jax.distributed.initialize())"
)
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train, or score a run's checkpoint")


def main() -> None:
    """Trains or scores."""
    # Imported here: the processes that read data import this module, and need none of it.
    import jax

    from jaxvsr import evaluate, train

    if DISTRIBUTED.value:
        jax.distributed.initialize()
    run = {"train": train.train, "eval": evaluate.run}[MODE.value]
    run(CONFIG.value, pathlib.Path(WORKDIR.value))


if __name__ == "__main__":
    cli.run(main, __doc__, ["config", "workdir"])
