import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Compilation takes most of the time. The processes of a run, those that tests start included, share
# what they compile, and so does the next run.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax")
)

import jax
import jaxtyping
import pytest

# Shapes in signatures are checked here and nowhere else; installed before jaxvsr is imported.
CHECKED = (
    "jaxvsr.layers",
    "jaxvsr.models",
    "jaxvsr.metrics",
    "jaxvsr.pixels",
    "jaxvsr.video.images",
    "jaxvsr.data.degradations",
    "jaxvsr.data.files",
    "jaxvsr.data.tile_codec",
    "jaxvsr.data.transforms",
)
jaxtyping.install_import_hook(CHECKED, "shapes.check")


@pytest.fixture(autouse=True)
def exact_matmuls():
    """The golden bars are for full float32, on every machine."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture
def unchecked():
    """Turns the checks of signatures off, for tests of the package's own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where the smallest embedded data set is prepared: dead_leaves/test, 2 + 1 clips."""
    from tfds_builders.dead_leaves.dead_leaves_dataset_builder import Builder

    path = tmp_path_factory.mktemp("tensorflow_datasets")
    Builder(data_dir=path, config="test").download_and_prepare()
    return path
