"""Reader of TensorFlow's checkpoints and SavedModels."""

import pathlib

import numpy as np

from jaxvsr.errors import InputError

SAVED = "variables"  # folder and file prefix of the variables in a SavedModel


def read_tf(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the variables of a checkpoint or a SavedModel; no graph is loaded or run.

    Args:
        path: the prefix of a tf.train checkpoint ("snapshot/ckpt-24"), its .index file, or the
            folder of a SavedModel.

    Returns:
        Names as in the file to float32 arrays, without variables that are not numeric.

    Raises:
        InputError: there is no such file, it is damaged, or TensorFlow is not installed.
    """
    path = pathlib.Path(path)
    inside = path / SAVED / "variables"
    prefix = inside if path.is_dir() else path.parent / path.name.removesuffix(".index")
    if not prefix.with_name(f"{prefix.name}.index").is_file():
        raise InputError(f"{path} is neither a checkpoint of TensorFlow nor a SavedModel's folder")
    try:
        import tensorflow as tf
    except ImportError as error:
        raise InputError(f"{path} needs TensorFlow to be read: pip install tensorflow") from error
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        types = reader.get_variable_to_dtype_map()
        numbers = [name for name, kind in types.items() if kind.is_floating or kind.is_integer]
        return {name: np.asarray(reader.get_tensor(name), np.float32) for name in sorted(numbers)}
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise InputError(f"{path} cannot be read as a checkpoint: {error}") from error
