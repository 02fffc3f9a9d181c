"""Imports go one way."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "jaxvsr"
# Which parts of the package a part may import. What is not listed may import everything but main.
ALLOWED = {
    "errors": set(),
    "layers": set(),
    "metrics": set(),
    "pictures": set(),
    "mask_pictures": {"pictures"},
    "mask_sweep": {"pictures", "progress", "layers"},
    "flops": set(),
    "hlo": set(),
    "measure": {"flops", "models", "state", "progress", "errors"},
    "tables": {"flops", "measure", "reports", "topology"},
    "losses": set(),
    "progress": set(),
    "sharding": {"errors"},
    "hosts": {"errors"},
    "optimizer": set(),
    "state": {"models"},
    "cli": {"config", "errors"},
    "data": {"errors"},
    "models": {"layers"},
    "weights": {"models", "errors"},
    "presets": {"models", "errors"},
    "tracing": {"progress", "errors"},
    "config": {"models", "sharding", "tracing", "errors"},
    "checkpoints": {"state", "errors"},
    "summaries": {"pictures", "errors"},
    "tiles": set(),
    "reports": set(),
    "restore": {"sharding", "tiles", "losses", "data", "layers"},
}
# Libraries that one file alone may import.
ONLY = {
    "orbax": "checkpoints.py",
    "clu": "summaries.py",
    "tensorboard": "summaries.py",
    "grain": "data/pipeline.py",
    "torch": "weights/files.py",
}


def imported(path):
    """Full names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules():
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    relative = path.relative_to(PACKAGE)
    part = relative.parts[0].removesuffix(".py")
    for name in imported(path):
        library = name.split(".")[0]
        assert ONLY.get(library, str(relative)) == str(relative), f"{relative} imports {library}"
        if library != "jaxvsr" or name == "jaxvsr":
            continue
        other = name.split(".")[1]
        assert other != "main", f"{relative} imports main"
        if part in ALLOWED and other != part:
            assert other in ALLOWED[part], f"{relative} imports {name}"


def test_every_rule_is_about_something():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()}
    assert ALLOWED.keys() <= parts
    assert all((PACKAGE / file).exists() for file in ONLY.values())
