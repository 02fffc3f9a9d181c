"""`python -m tfds_builders <builder folder> --config=...`: the command `tfds build`.

The `tfds` command does not start without Apache Beam (TFDS 4.9.10), which no builder here needs.
"""

import dataclasses
import sys

from absl import app, logging
from tensorflow_datasets.scripts.cli import build, cli_utils


def main(args: build.Args) -> None:
    """Builds the data sets that the command line names."""
    logging.set_verbosity(logging.INFO)
    generation = args.generation
    if generation.config is None and generation.config_idx is None:
        # TFDS would build every config.
        args = dataclasses.replace(args, generation=dataclasses.replace(generation, config_idx=0))
    try:
        args.execute()
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again")
    # TFDS and its libraries raise their own kinds of errors, and wrap those of the builders.
    except Exception as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    app.run(main, flags_parser=cli_utils.make_flags_parser(build.Args, description=__doc__))
