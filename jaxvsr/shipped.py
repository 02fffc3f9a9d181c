"""The configs and data set builders that come with the package, in a wheel and in a checkout."""

import pathlib
import sys
import types

_PACKAGE = pathlib.Path(__file__).parent


def folder(name: str) -> pathlib.Path:
    """The folder of "configs" or "builders": inside the installed package, else in the checkout."""
    checkout = {"configs": "configs", "builders": "tfds_builders"}[name]
    installed = _PACKAGE / f"_{name}"
    return installed if installed.is_dir() else _PACKAGE.parent / checkout


def make_importable(module: str, *folders: pathlib.Path) -> None:
    """Makes a package of plain files importable under a name, whatever is on sys.path.

    A wheel must not install top-level packages called "configs" or "tfds_builders", but configs
    import each other as `from configs import protocols`, and builders likewise.

    Args:
        module: the name.
        *folders: where its modules are looked for, in this order.
    """
    package = sys.modules.setdefault(module, types.ModuleType(module))
    package.__path__ = [str(place.resolve()) for place in folders]
    package.__file__ = f"{package.__path__[0]}/__init__.py"  # where TFDS looks for a README
