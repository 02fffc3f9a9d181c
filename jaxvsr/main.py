"""python -m jaxvsr.main --config=configs/miavsr.py:tiny --workdir=runs/one [--mode=eval]"""

import pathlib

from absl import flags

from jaxvsr import cli
from jaxvsr.errors import InputError

CONFIG = cli.define_config()
WORKDIR = flags.DEFINE_string("workdir", "", "The run's folder, new or to be gone on with")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes, of which the scheduler's environment tells"
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "One of several processes, of which process 0 is reached at host:port"
)
PROCESSES = flags.DEFINE_integer("processes", None, "How many there are, with --coordinator")
PROCESS = flags.DEFINE_integer("process", None, "The number of this one, from 0 on")
CONNECT_TIMEOUT = flags.DEFINE_integer(
    "connect_timeout",
    45,
    "Seconds in which several processes have to find each other",
    lower_bound=1,
)
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train, or score a run's checkpoint")


def main() -> None:
    """Trains or scores."""
    # Imported here: the processes that read data import this module, and need none of it.
    from jaxvsr import config as configs
    from jaxvsr import evaluate, hosts, train

    config, workdir = CONFIG.value, pathlib.Path(WORKDIR.value)
    run = {"train": train.train, "eval": evaluate.run}[MODE.value]
    place = (COORDINATOR.value, PROCESSES.value, PROCESS.value)
    if not DISTRIBUTED.value and place == (None, None, None):
        run(config, workdir)
        return
    if not DISTRIBUTED.value and None in place:
        raise InputError("--coordinator, --processes and --process belong together")
    hosts.connect(*place, timeout=CONNECT_TIMEOUT.value)
    try:
        fields = dict(configs.fields(configs.plain(config)))
        shared = {name: fields[name] for name in fields if name not in configs.HOSTS_OWN}
        hosts.check_same({"mode": MODE.value, "workdir": str(workdir), **shared})
        run(config, workdir)
    except Exception as error:
        hosts.leave(error)


if __name__ == "__main__":
    cli.run(main, __doc__, ["config", "workdir"])
