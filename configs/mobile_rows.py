"""The rows of FANI's work log with known structure.

A row is (model, fields that differ from the defaults of its class).
"""

from typing import Any

Row = tuple[str, dict[str, Any]]

_WIDE = ((5, 1), (5, 3))  # kernel size and dilation of two convolutions; receptive field 17
_MIXED = {"mix": "twice"}
_VIEW_13 = {"kernels": ((5, 1), (5, 2))}
_VIEW_17 = {"kernels": _WIDE, "pointwise": "biased"}
_SORT_8 = {"dim": 8, "widths": (20, 12, 4), "kept": 2}
# MVSR_1 to 11: three blocks, depthwise convolutions in a stage.
_EARLY: dict[str, Any] = {"align_project": True, "num_blocks": 3, "stage_depthwise": True}
# ... and most of them concatenate the stages and apply attention per channel and pixel.
_CONCAT: dict[str, Any] = {
    **_EARLY,
    "merge": "concat",
    "attention_fc": False,
    "attention_dim": 16,
}
_ALONE = {"align": "none", "align_project": False}
_WHOLE: dict[str, Any] = {
    "stage_dim": 16,
    "stage_fc": False,
    "attention_dim": 16,
    "attention_fc": False,
}
_SIDE_17 = {"stage_kernels": ((17, 1),)}


def _parts(dim: int) -> dict[str, int]:
    """Sets the channels of the stages' convolutions and of the attention."""
    return {"stage_dim": dim, "attention_dim": dim}


ROWS: dict[str, Row] = {
    "SWAT_0": ("swat", {**_MIXED, "mix_ratio": 4}),
    "SWAT_1": ("swat", {**_MIXED, "mix_ratio": 2}),
    "SWAT_2": ("swat", _MIXED),
    "SWAT_3": ("swat", _MIXED),
    "SWAT_3_2": (
        "swat",
        {"pointwise": "conv", "mix": "once", "mix_ratio": 2, "kernels": _WIDE, "depthwise": True},
    ),
    "SWAT_3_3": ("swat", {"mix": "dense", **_VIEW_13, "trunk_blocks": 1}),
    "SWAT_3_4": ("swat", {**_VIEW_13, "num_blocks": 2, "trunk_blocks": 2}),
    "SWAT_3_5": ("swat", {**_VIEW_17, "num_blocks": 2, "trunk_blocks": 2}),
    "SWAT_3_6": ("swat", {**_VIEW_17, "num_blocks": 2, "trunk_blocks": 2, "shallow": "conv"}),
    "SWAT_4": ("swat", {"pointwise": "conv", "ratio": 1.0}),
    "SWAT_5": ("swat", _MIXED),
    # The log does not say which state it passes on without a convolution; here, the features.
    "SWAT_6": ("swat", {**_MIXED, "hidden": "none"}),
    "SORT_0": ("sort", {**_SORT_8, "shared_residual": True}),
    "SORT_1": ("sort", _SORT_8),
    "SORT_2": ("sort", {}),
    "SORT_3": ("sort", {"contrast": True}),
    "VSR_10": ("vsr", {}),
    "VSR_11": ("vsr", {"hidden": "biased"}),
    "VSR_12": ("vsr", {"hidden": "block"}),
    "ABPN_0": ("abpn", {}),
    "AFAVSR_0": ("afavsr", {}),
    "AFAVSR_1": ("afavsr", {"dim": 16, "num_blocks": 8, "attention_dim": 32, "tail_side": 1}),
    "MVSR_1": ("fani", _CONCAT),
    "MVSR_2": ("fani", {**_CONCAT, **_ALONE}),
    # The log does not give the dilation of rows 3, 4 and 5.
    "MVSR_3": ("fani", {**_CONCAT, "stage_kernels": ((3, 1), (3, 3))}),
    "MVSR_4": ("fani", {**_CONCAT, **_ALONE, "stage_kernels": ((7, 1), (7, 3))}),
    "MVSR_5": ("fani", {**_CONCAT, "stage_kernels": ((7, 1), (7, 3))}),
    "MVSR_8": ("fani", {**_CONCAT, "attention": "channel"}),
    "MVSR_9": ("fani", {**_EARLY, "merge": "refine", "attention": "none"}),
    "MVSR_10": ("fani", {**_EARLY, "fuse": True, "attention_depthwise": True}),
    "MVSR_11": ("fani", {**_EARLY, "num_blocks": 4, "attention_depthwise": True}),
    "MVSR_12": ("fani", {"align_project": True}),
    "MVSR_13": ("fani", {}),
    "MVSR_13_1": ("fani", {"tail": "separable"}),
    "MVSR_13_2": ("fani", _parts(4)),
    "MVSR_13_3": ("fani", _parts(2)),
    "MVSR_13_4": ("fani", _parts(12)),
    "MVSR_13_4_revalid": ("fani", _parts(12)),
    "MVSR_13_5": ("fani", _parts(14)),
    "MVSR_13_6": ("fani", _parts(6)),
    "MVSR_13_7": ("fani", _parts(10)),
    "MVSR_14": ("fani", {"align": "conv"}),
    "MVSR_15": ("fani", {"num_blocks": 3}),
    "MVSR_16": ("fani", {**_WHOLE, **_SIDE_17, "shallow": "conv"}),
    "MVSR_17": ("fani", {"stage_kernels": ((3, 1),), "attention_kernels": _WIDE}),
    "MVSR_18": (
        "fani",
        {"stage_kernels": ((3, 1),), "attention_kernels": _WIDE, "shallow": "conv"},
    ),
    "MVSR_19": ("fani", {"num_blocks": 3, "attention_kernels": _WIDE}),
    "MVSR_20": ("fani", _SIDE_17),
    "MVSR_21": ("fani", {**_WHOLE, **_SIDE_17, "shallow": "conv", "align": "none"}),
    "MVSR_21_1": ("fani", {**_WHOLE, **_SIDE_17, "shallow": "conv", "align": "concat"}),
    "MVSR_22": ("fani", {**_SIDE_17, "shallow": "conv"}),
    "MVSR_23": ("fani", {"stage_depthwise": True, "attention_depthwise": True}),
    "MVSR_24": ("fani", _WHOLE),
    "MVSR_24_revalid": ("fani", _parts(16)),
    "MVSR_25": ("fani", {"shallow": "conv"}),
    "MVSR_26": ("fani", _SIDE_17),
    "MVSR_27": ("fani", {"stage_fc": False, "attention_fc": False}),
}
