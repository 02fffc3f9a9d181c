"""Trains a model, or scores the best checkpoint of a run.

    jaxvsr train --config=configs/miavsr.py:tiny --workdir=runs/demo
    jaxvsr eval --workdir=runs/demo
    jaxvsr eval --config=configs/miavsr.py:vimeo,vid4 --workdir=runs/mia_vimeo
    python -m jaxvsr.main --config=configs/miavsr.py:tiny --workdir=runs/demo [--mode=eval]

The same command again resumes an interrupted training. --config.train.steps=1000 sets a field of
the config. Without --config, that of the run is used.
"""

import pathlib
from typing import Any

from absl import flags

from jaxvsr import cli


def command(name: str) -> cli.Command:
    """Describes the commands "train", "eval", and "main", which has --mode."""
    values = flags.FlagValues()
    cli.define_config(values)
    cli.define_path(
        "workdir", None, "The run's folder: a new one, or one to resume or score", values
    )
    if name == "main":
        flags.DEFINE_enum(
            "mode",
            "train",
            ["train", "eval"],
            "Train a model, or score a run's best checkpoint",
            flag_values=values,
        )
    cli.define_hosts(values)

    def main(value: dict[str, Any]) -> None:
        train_or_score({"mode": name} | value)

    return cli.Command(
        __doc__,
        main,
        values,
        required=("workdir",),
        after_interruption="run the same command again to resume",
    )


def train_or_score(value: dict[str, Any]) -> None:
    """Runs the command with the values of its flags."""
    # Imported here, since each data loading process imports this module first.
    from jaxvsr import evaluate, train
    from jaxvsr.config import chosen_config, shared_fields
    from jaxvsr.distributed import hosts

    config = chosen_config(value)
    workdir, mode = pathlib.Path(value["workdir"]), value["mode"]
    settings = {"mode": mode, "workdir": str(workdir), **shared_fields(config)}
    with hosts.connected(value, settings):
        {"train": train.train, "eval": evaluate.score_run}[mode](config, workdir)


if __name__ == "__main__":
    cli.start("main", "jaxvsr.main")
