"""Imports go one way."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "jaxvsr"
# Which parts of the package each part may import: every folder and file has its line.
LEAVES = {"errors", "files", "locks", "pixels"}
BELOW_MODELS = LEAVES | {"distributed"}
NETWORKS = BELOW_MODELS | {"kernels", "layers", "models", "flops"}
DATA = LEAVES | {"data", "video", "metrics", "console"}
RUNS = NETWORKS | DATA | {"weights", "config", "programs", "training"}
COMMAND = RUNS | {"cli", "evaluation", "presets", "preflight"}
ALLOWED = {
    "__init__": set(),
    "compile_cache": set(),
    "errors": set(),
    "files": {"errors"},
    "locks": {"errors"},
    "pixels": set(),
    "programs": LEAVES | {"compile_cache", "kernels"},
    "console": set(),
    "flops": set(),
    "distributed": LEAVES,
    "kernels": {"distributed"},
    "layers": {"kernels", "distributed", "pixels"},
    "models": {"layers", "kernels", "distributed", "errors"},
    "weights": {"models", "errors", "console"},
    "presets": {"models", "weights", "errors"},
    "metrics": {"pixels"},
    "data": LEAVES | {"video", "console"},
    "video": LEAVES | {"console"},
    "config": LEAVES | {"shipped"},
    "shipped": set(),
    "preflight": RUNS | {"evaluation"},
    "training": RUNS - {"training"},
    "evaluation": RUNS,
    "upscaling": RUNS | {"evaluation"},
    "profiling": RUNS | {"evaluation"},
    "exporting": RUNS | {"evaluation"},
    "cli": LEAVES | {"compile_cache"},
    "__main__": {"cli", "errors"},
    "prepare": LEAVES | {"cli", "shipped", "data"},
    "train": COMMAND | {"evaluate"},
    "evaluate": COMMAND,
    "upscale": COMMAND | {"upscaling"},
    "convert": COMMAND,
    "profile": COMMAND | {"profiling"},
    "export": COMMAND | {"exporting", "upscale"},
    "main": COMMAND | {"train", "evaluate"},
}
# Libraries that one file alone may import.
ONLY = {
    "orbax": "training/checkpoints.py",
    "clu": "training/summaries.py",
    "tensorboard": "training/summaries.py",
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
        assert other == part or other in ALLOWED[part], f"{relative} imports {name}"


def test_every_rule_is_about_something():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()}
    assert ALLOWED.keys() == parts
    assert all((PACKAGE / file).exists() for file in ONLY.values())
