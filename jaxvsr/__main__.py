"""Video super-resolution in JAX.

    jaxvsr upscale in.mp4 out.mp4
    jaxvsr data dead_leaves/small
    jaxvsr train --config=miavsr:tiny --workdir=runs/demo
    jaxvsr eval --workdir=runs/demo
    jaxvsr convert --config=basicvsr --source=official.pth --out=runs/official
    jaxvsr profile --config=miavsr:tiny
    jaxvsr export --preset=swrn --size=180x320 --out=phone

`jaxvsr COMMAND --help` has more examples and the flags of a command.
"""

import sys

import jaxvsr
from jaxvsr import cli
from jaxvsr.errors import suggest


def main() -> None:
    """Runs the command that the command line names first."""
    words = sys.argv[1:]
    first = words[0] if words else "--help"
    if first == "--version":
        cli.show(f"jaxvsr {jaxvsr.__version__}")
    elif first in ("--help", "-h", "help"):
        cli.show(__doc__.strip())
    elif first in cli.COMMANDS:
        cli.start(first, words=words[1:])
    else:
        sys.exit(f"error: unknown command {first!r}{suggest(first, cli.COMMANDS)}")


if __name__ == "__main__":
    main()
