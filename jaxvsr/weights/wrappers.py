"""Removal of prefixes and training state that frameworks add to official tensor names."""

import re
from collections.abc import Mapping
from typing import Any

# MMEditing's names of the layers of BasicVSR and BasicVSR++, and BasicSR's.
MMEDITING = (
    (r"\bbasic_module\.(\d)\.conv\.", lambda m: f"basic_module.{2 * int(m[1])}."),
    (r"^(backward|forward)_resblocks\.", r"\1_trunk."),
    (r"^upsample(\d)\.upsample_conv\.", r"upconv\1."),
)
# Training state saved with the weights: MMEditing's counter, MindSpore's optimizer.
OF_TRAINING = re.compile(
    r"^(step_counter|global_step|learning_rate|epoch_num|step_num|beta[12]_power"
    r"|current_iterator_step|last_overflow_iterator_step|scale_sense|(moments?[12]?|accum)\..*)$"
)


def unwrap(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Converts names to those of the official code.

    Args:
        tensors: names to arrays, optionally with the prefix of PyTorch's DataParallel ("module.")
            or of MMEditing's BasicVSR and BasicVSR++ ("generator.").

    Returns:
        The arrays by official name, without training state.
    """
    plain = {name: x for name, x in tensors.items() if not OF_TRAINING.match(name)}
    for prefix in ("module.", "generator."):
        if any(name.startswith(prefix) for name in plain):
            kept = {name: x for name, x in plain.items() if name.startswith(prefix)}
            if prefix == "module." and len(kept) < len(plain):
                continue  # the name of a layer, not a prefix of all
            plain = {name.removeprefix(prefix): x for name, x in kept.items()}
    return {_as_basicsr(name): x for name, x in plain.items()}


def unwrap_tf(variables: Mapping[str, Any]) -> dict[str, Any]:
    """`unwrap` for names of a tf.train checkpoint or a Keras model."""
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    foreign = r"\.OPTIMIZER_SLOT/|^optimizer/|^save_counter|^_CHECKPOINTABLE_OBJECT_GRAPH"
    return {
        name.removeprefix("model/").removesuffix(suffix): x
        for name, x in variables.items()
        if not re.search(foreign, name)
    }


def _as_basicsr(name: str) -> str:
    for pattern, replacement in MMEDITING:
        name = re.sub(pattern, replacement, name)
    return name
