"""Removal of nested sets, prefixes and training state that frameworks add to weights."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from jaxvsr.console import be_silent
from jaxvsr.errors import InputError
from jaxvsr.weights.tensors import is_tensor, printable

# Sets of weights in a nested checkpoint, the preferred ones first: moving averages lead.
GROUPS = (
    *("params_ema", "generator_ema", "net_g_ema", "model_ema", "ema_model"),
    *("state_dict_ema", "ema_state_dict", "ema"),
    *("params", "state_dict", "model_state_dict", "net_g", "generator"),
    *("model", "network", "net", "module", "weights"),
)
DEPTH = 5  # of nested sets
# Prefixes of the network's names if a file holds several networks, the preferred ones first.
NETWORKS = ("generator_ema", "net_g_ema", "model_ema", "ema_model", "generator", "net_g")
# Prefixes that all names have: of DataParallel, Lightning and the like.
WRAPPERS = ("module", "model", "network", "net")
# MMEditing's names of the layers of BasicVSR and BasicVSR++, and BasicSR's.
MMEDITING = (
    (r"\bbasic_module\.(\d)\.conv\.", lambda m: f"basic_module.{2 * int(m[1])}."),
    (r"^(backward|forward)_resblocks\.", r"\1_trunk."),
    (r"^upsample(\d)\.upsample_conv\.", r"upconv\1."),
)
# Training state saved with the weights: MMEditing's counter, MindSpore's optimizer, averages'
# counters; and sets of other things than weights.
OF_TRAINING = re.compile(
    r"^(step_counter|global_step|learning_rate|epoch_num|step_num|beta[12]_power|epoch|iter|steps"
    r"|current_iterator_step|last_overflow_iterator_step|scale_sense|(moments?[12]?|accum)\..*"
    r"|(module\.)?(n_averaged|num_updates|decay))$"
)
NOT_WEIGHTS = re.compile(r"optim|sched|scaler|discriminator|net_d|loss|hyper_param|config|args")


def unwrap(tensors: Mapping[str, Any], say: Callable[[str], None] = be_silent) -> dict[str, Any]:
    """Converts names to those of the official code.

    Args:
        tensors: names to arrays. They may be nested in sets ("params_ema", "state_dict") and have
            prefixes of PyTorch ("module.", "_orig_mod."), Lightning ("model."), BasicSR ("net_g.")
            or MMEditing ("generator_ema.", "generator."), in any order. A moving average is
            preferred.
        say: receives a line if there is a choice of sets.

    Returns:
        The arrays by official name, without training state.

    Raises:
        InputError: a name that is not text, or that two tensors have in the end; or several sets
            of unknown names.
    """
    try:
        plain = select(tensors, say=say)
    except InputError as error:
        raise InputError(f"the state dict {error}") from error
    plain = _renamed(plain, lambda name: re.sub(r"(^|\.)(_orig_mod\.)+", r"\1", name))
    while True:
        plain = {name: x for name, x in plain.items() if not OF_TRAINING.match(name)}
        first = {name.partition(".")[0] for name in plain if "." in name}
        networks = [prefix for prefix in NETWORKS if prefix in first]
        wrapper = next((p for p in WRAPPERS if all(n.startswith(f"{p}.") for n in plain)), "")
        if networks:
            prefix = f"{networks[0]}."
            plain = {name: x for name, x in plain.items() if name.startswith(prefix)}
            _say_choice(networks, say)
        elif wrapper and plain:
            prefix = f"{wrapper}."
        else:
            break
        plain = {name.removeprefix(prefix): x for name, x in plain.items()}
    return _renamed(plain, _as_basicsr)


def select(
    tree: Mapping[Any, Any], group: str = "", say: Callable[[str], None] = be_silent
) -> dict[str, Any]:
    """Finds the tensors in a checkpoint of nested sets.

    Args:
        tree: names to tensors, sets of tensors, or anything else, which is left out.
        group: the set to take; "": the first of GROUPS, or the only one.
        say: receives a line if there is a choice.

    Returns:
        Names to tensors.

    Raises:
        InputError: no such group, several sets of unknown names, or a name that is not text. The
            message is a predicate of the checkpoint.
    """
    sets = _sets(tree)
    if group and group not in sets:
        known = f"but {', '.join(sets)}" if sets else "but one set of weights"
        raise InputError(f"holds no {group!r}, {known}")
    tree = tree[group] if group else tree
    for _ in range(DEPTH):
        sets = _sets(tree)
        known_sets = [name for name in GROUPS if name in sets]
        if known_sets:
            _say_choice(known_sets, say)
            tree = sets[known_sets[0]]
        elif any(map(is_tensor, tree.values())) or not sets:
            break
        elif len(sets) > 1:
            raise InputError(f"holds several sets of weights: {', '.join(sets)}; name one as group")
        else:
            (tree,) = sets.values()
    numbers = (int, float, list, tuple)
    found = {k: x for k, x in tree.items() if is_tensor(x) or isinstance(x, numbers)}
    for name in found:
        if not isinstance(name, str):
            raise InputError(f"has {name!r} as the name of a tensor, which must be text")
    return {printable(name): x for name, x in found.items()}


def unwrap_tf(variables: Mapping[str, Any]) -> dict[str, Any]:
    """`unwrap` for names of a tf.train checkpoint or a Keras model."""
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    foreign = r"\.OPTIMIZER_SLOT/|^optimizer/|^save_counter|^_CHECKPOINTABLE_OBJECT_GRAPH"
    return {
        printable(name.removeprefix("model/").removesuffix(suffix)): x
        for name, x in variables.items()
        if not re.search(foreign, name)
    }


def _sets(tree: Mapping[Any, Any]) -> dict[str, Mapping[Any, Any]]:
    """Returns the nested mappings with tensors by name, without those of an optimizer and such."""

    judged: dict[int, bool] = {}  # a pickle may hold a mapping many times, even in itself

    def holds_tensors(value: Mapping[Any, Any], depth: int) -> bool:
        if id(value) not in judged:
            judged[id(value)] = False
            judged[id(value)] = depth > 0 and any(
                holds_tensors(x, depth - 1) if isinstance(x, Mapping) else is_tensor(x)
                for x in value.values()
            )
        return judged[id(value)]

    return {
        name: value
        for name, value in tree.items()
        if isinstance(name, str) and not NOT_WEIGHTS.search(name)
        if isinstance(value, Mapping) and holds_tensors(value, DEPTH)
    }


def _say_choice(found: list[str], say: Callable[[str], None]) -> None:
    if len(found) > 1:
        say(f"taking the weights {found[0]!r}; the file also holds {', '.join(found[1:])}")


def _renamed(tensors: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, x in tensors.items():
        new = rename(name)
        if new in result:
            raise InputError(f"two tensors are named {new!r}, one of them as {name!r}")
        result[new] = x
    return result


def _as_basicsr(name: str) -> str:
    for pattern, replacement in MMEDITING:
        name = re.sub(pattern, replacement, name)
    return name
