"""Every recipe has the values of its official option file.

An entry of RECIPES is a config, its source, and the source's values under the names of this
package. Sources: BasicSR (options/train/BasicVSR), MIA-VSR and RethinkVSRAlignment (options),
BasicVSR_PlusPlus (configs), KAIR (options/vrt, options/rvrt), mindediting (configs/rvrt_light), and
config.yml of mai22-real-time-video-sr, swrn and FANI. "batch" is the number of GPUs times the
samples of each. All of them draw horizontal and vertical flips and a transpose, or a rotation by 90
degrees, with probability 1/2 each, as the data pipeline always does.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvsr.config import fields, load_config
from jaxvsr.training.optimizer import make_optimizer

ADAM = {"optim.name": "adam", "optim.b1": 0.9, "optim.b2": 0.99, "optim.eps": 1e-8}
ADAM |= {"optim.warmup": 0, "optim.weight_decay": 0.0}
COSINE = {"optim.lr_end": 1e-7, "optim.lr_steps": ()}
SAMPLES = {
    "data.crop": 256,
    "data.intervals": (1,),
    "data.reverse": False,
    "data.mirror": False,
    "data.lq_frames": (),
    "data.gt_frames": (),
    "data.degradation": "",
    "data.noise": (),
}
REDS = {**SAMPLES, "data.dataset": "reds", "data.split": "train", "eval.split": "reds4"}
REDS |= {"eval.dataset": "reds", "eval.channel": "rgb", "eval.crop": 0}
VIMEO = {**SAMPLES, "data.dataset": "vimeo90k", "data.split": "train", "data.frames": 7}
VIMEO |= {"eval.channel": "y", "eval.crop": 0, "eval.frames": (3,)}
MIRRORED = {**VIMEO, "data.mirror": True}
CHARBONNIER = {"loss.terms.charbonnier": 1.0, "loss.eps": 1e-12, "loss.peak": 1.0}
CHARBONNIER |= {"loss.sum_frames": False, "loss.sparsity": 0.0}
EVERY = {"eval.every": 5000, "train.checkpoint_every": 5000, "optim.clip_norm": 0.0}

BASICSR = {
    **ADAM,
    **COSINE,
    **CHARBONNIER,
    **EVERY,
    "optim.lr": 2e-4,
    "optim.ema": 0.999,
    "optim.fix_flow": 5000,
    "optim.flow_lr_mul": 0.125,
    "optim.flow_params": ("spynet",),
    "optim.fix_part": "",
}
BASICVSR = {
    **BASICSR,
    "data.frames": 15,
    "data.batch": 2 * 4,
    "train.steps": 300_000,
    "model.dim": 64,
    "model.depth": 30,
}
ICONVSR = {**BASICVSR, "optim.fix_part": "edvr", "model.keyframe_stride": 5}
PSRT = {
    **BASICSR,
    "data.frames": 16,
    "data.batch": 8 * 1,
    "train.steps": 600_000,
    "model.mid_channels": 64,
    "model.dim": 120,
    "model.depths": (6,) * 3,
    "model.num_heads": (6,) * 3,
    "model.window_size": (3, 8, 8),
}
# fix_flow -1: no freezing.
ON_VIMEO = {
    "train.steps": 300_000,
    "optim.lr": 1e-4,
    "optim.fix_flow": 0,
    "optim.flow_lr_mul": 0.25,
}
MIAVSR = {
    **PSRT,
    "data.batch": 8 * 3,
    "model.depths": (6,) * 4,
    "model.num_heads": (6,) * 4,
    "model.use_mask": True,
    "loss.sparsity": 1e-4,  # in the code of SparsityLoss
}
BASICVSRPP = {
    **BASICSR,
    **REDS,
    "data.frames": 30,
    "data.batch": 8 * 1,
    "optim.lr": 1e-4,
    "optim.ema": 0.0,
    "optim.flow_lr_mul": 0.25,
    "optim.fix_flow": 5001,  # the counter of MMEditing starts at 0: 5,000 iterations are frozen
    "train.steps": 600_000,
    "model.dim": 64,
    "model.depth": 7,
    "model.is_low_res_input": True,
}
KAIR = {**BASICSR, "loss.eps": 1e-9, "optim.lr": 4e-4, "optim.ema": 0.0, "data.batch": 8}
VRT = {
    **KAIR,
    "optim.fix_flow": 20_000,
    "optim.flow_lr_mul": 0.125,
    "optim.flow_params": ("spynet", "deform"),
    "train.steps": 300_000,
    "data.frames": 6,
    "model.scale": 4,
    "model.dims": (120,) * 7 + (180,) * 6,
    "model.depths": (8,) * 7 + (4,) * 6,
    "model.num_heads": (6,) * 13,
    "model.window_size": (6, 8, 8),
    "model.indep_reconsts": (11, 12),
    "model.pa_frames": 2,
    "model.deform_groups": 12,
    "model.noise_level": False,
    "eval.tile": (40, 128, 128),
    "eval.overlap": (2, 20, 20),
}
VRT_VIMEO = {
    **VRT,
    **VIMEO,
    "data.reverse": True,
    "data.lq_frames": (0, 1, 2, 3, 4, 5, 6, 6),  # pad_sequence
    "data.gt_frames": (0, 1, 2, 3, 4, 5, 6, 6),
    "model.window_size": (8, 8, 8),
    "model.pa_frames": 4,
    "model.deform_groups": 16,
    "eval.tile": (32, 128, 128),
}
VRT_SAME_SIZE = {
    **VRT,
    **SAMPLES,
    "data.crop": 192,
    "model.scale": 1,
    "model.dims": (96,) * 7 + (120,) * 4,
    "model.depths": (8,) * 7 + (4,) * 4,
    "model.num_heads": (6,) * 11,
    "model.indep_reconsts": (9, 10),
    "model.deform_groups": 16,
    "eval.tile": (12, 256, 256),
}
DENOISING = {"data.noise": (0, 50), "eval.noise": 30, "model.noise_level": True}
INTERPOLATION = {
    "data.dataset": "vimeo90k/clean",
    "data.frames": 7,
    "data.reverse": True,
    "data.lq_frames": (0, 2, 4, 6),
    "data.gt_frames": (3,),
    "optim.flow_lr_mul": 0.0,
    "model.window_size": (4, 8, 8),
    "model.indep_reconsts": (),
    "model.pa_frames": 0,
    "eval.tile": (0, 0, 0),
}
RVRT = {
    **KAIR,
    "optim.fix_flow": 30_000,
    "optim.flow_lr_mul": 0.25,
    "train.steps": 600_000,
    "data.frames": 30,
    "model.scale": 4,
    "model.dim": 144,
    "model.num_blocks": (1, 2, 1),
    "model.depths": (2, 2, 2),
    "model.num_heads": (6, 6, 6),
    "model.window_size": (2, 8, 8),
    "model.inputconv_groups": (1, 1, 1, 1, 1, 1),
    "model.attention_heads": 12,
    "model.attention_window": (3, 3),
    "eval.tile": (0, 128, 128),
}
DEFORM = {"model.deform_groups": 12}
RVRT_VIMEO = {
    **RVRT,
    **MIRRORED,
    "data.reverse": True,
    "optim.lr": 2e-4,
    "optim.fix_flow": 0,
    "train.steps": 300_000,
    "eval.tile": (0, 0, 0),
}
RVRT_SAME_SIZE = {
    **RVRT,
    **SAMPLES,
    **DEFORM,
    "data.frames": 16,
    "model.scale": 1,
    "model.dim": 192,
    "model.inputconv_groups": (1, 3, 3, 3, 3, 3),
    "eval.tile": (0, 256, 256),
}
MOBILE = {
    **ADAM,
    **SAMPLES,
    "data.dataset": "reds",
    "data.split": "train_official",
    "data.frames": 10,
    "data.crop": 4 * 64,
    "optim.b2": 0.999,
    "optim.eps": 1e-7,
    "optim.ema": 0.0,
    "loss.terms.charbonnier": 1.0,
    "loss.eps": 1e-6,
    "loss.peak": 255.0,
    "loss.sum_frames": True,
    "eval.dataset": "reds",
    "eval.split": "val_official",
    "eval.channel": "rgb",
    "eval.rounded": False,
}

RECIPES = {
    "basicvsr:reds": {**BASICVSR, **REDS},
    "basicvsr:vimeo": {**BASICVSR, **MIRRORED},
    "iconvsr:reds": {**ICONVSR, **REDS, "model.temporal_padding": 2},
    "iconvsr:vimeo": {**ICONVSR, **MIRRORED, "model.temporal_padding": 3},
    "basicvsrpp:reds": BASICVSRPP,
    "basicvsrpp:vimeo": {
        **BASICVSRPP,
        **MIRRORED,
        "data.batch": 4 * 2,
        "optim.fix_flow": 0,
        "train.steps": 300_000,
        "eval.dataset": "vimeo90k",
        "eval.split": "test",
    },
    "psrt:reds": {**PSRT, **REDS},
    "psrt:vimeo": {**PSRT, **MIRRORED, **ON_VIMEO},
    "miavsr:reds": {**MIAVSR, **REDS},
    "miavsr:vimeo": {**MIAVSR, **MIRRORED, **ON_VIMEO},
    "vrt:001": {**VRT, **REDS},
    # KAIR's file has the values of another network, of 6 frames; these are those of the released
    # weights' code, main_test_vrt.py.
    "vrt:002": {
        **VRT,
        **REDS,
        "data.frames": 16,
        "model.window_size": (8, 8, 8),
        "model.pa_frames": 6,
        "model.deform_groups": 24,
    },
    "vrt:003": VRT_VIMEO,
    "vrt:004": {**VRT_VIMEO, "data.dataset": "vimeo90k/bd"},
    "vrt:005": {**VRT_SAME_SIZE, "data.dataset": "frames/dvd"},
    "vrt:006": {**VRT_SAME_SIZE, "data.dataset": "frames/gopro", "eval.tile": (18, 192, 192)},
    "vrt:007": {**VRT_SAME_SIZE, "data.dataset": "reds/blur"},
    "vrt:008": {**VRT_SAME_SIZE, **DENOISING, "data.dataset": "frames/davis"},
    "vrt:009": {**VRT_SAME_SIZE, **INTERPOLATION},
    "rvrt:001": {**RVRT, **REDS, **DEFORM},
    "rvrt:002": {**RVRT_VIMEO, **DEFORM},
    "rvrt:003": {**RVRT_VIMEO, **DEFORM, "data.dataset": "vimeo90k/bd"},
    "rvrt:004": {**RVRT_SAME_SIZE, "data.dataset": "frames/dvd"},
    "rvrt:005": {**RVRT_SAME_SIZE, "data.dataset": "frames/gopro"},
    "rvrt:006": {
        **RVRT_SAME_SIZE,
        **DENOISING,
        "data.dataset": "frames/davis",
        "model.inputconv_groups": (1, 3, 4, 6, 8, 4),
    },
    "rvrt_light:vimeo": {
        **RVRT_VIMEO,
        **CHARBONNIER,
        "data.reverse": False,
        "optim.flow_lr_mul": 0.0,
        "train.steps": 100 * 64_612 // 8,  # 100 epochs
    },
    "swrn:reds": {
        **MOBILE,
        "data.batch": 16,
        "train.steps": 250_000,
        "optim.lr": 1e-3,
        # The file ends with 5e-4, for 5e-5.
        "optim.lr_steps": ((40_000, 5e-4), (100_000, 2.5e-4), (150_000, 1e-4), (200_000, 5e-5)),
    },
    "mobile:FANI": {
        **MOBILE,
        "data.batch": 4,
        "train.steps": 50_000,
        "optim.lr": 1e-3,
        "optim.lr_steps": ((20_000, 5e-4), (30_000, 2.5e-4), (40_000, 1e-4)),
    },
    "mobile:MobileRRN": {
        **MOBILE,
        "data.batch": 4,
        "train.steps": 1_500_000,
        "optim.lr": 1e-4,
        "optim.lr_steps": ((999_999, 1e-5),),  # a staircase that falls at iteration 1,000,000
    },
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_value_is_that_of_the_official_option_file(name):
    found = dict(fields(load_config(name)))
    expected = RECIPES[name]
    assert {field: found[field] for field in expected} == expected


def cosine(iteration, base, steps, end=1e-7):
    """BasicSR's learning rate before iteration 1, 2, ..."""
    return end + (base - end) * (1 + np.cos(np.pi * (iteration - 1) / steps)) / 2


@pytest.mark.parametrize(
    "name", [name for name in RECIPES if not RECIPES[name].get("optim.lr_steps")]
)
def test_rates_of_the_groups_are_the_official_ones(name):
    config = load_config(name)
    steps, lr = config.train.steps, config.optim.lr
    _, rates = make_optimizer(config.optim, steps)
    factors = {"rest": 1.0, "spynet": config.optim.flow_lr_mul}
    assert rates.keys() == {group for group, factor in factors.items() if factor}
    for group, rate in rates.items():
        for iteration in (1, 2, 5000, steps // 2, steps):
            expected = cosine(iteration, factors[group] * lr, steps)
            assert float(rate(iteration - 1)) == pytest.approx(expected, rel=2e-3, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("swrn", {0: 1e-3, 40_000: 1e-3, 40_001: 5e-4, 200_001: 5e-5}),
        ("mobile:FANI", {20_000: 1e-3, 20_001: 5e-4, 30_001: 2.5e-4, 40_001: 1e-4}),
        ("mobile:MobileRRN", {0: 1e-4, 999_999: 1e-4, 1_000_000: 1e-5}),
    ],
)
def test_rates_of_mobile_networks_are_tensorflows(name, rates):
    config = load_config(name)
    _, schedules = make_optimizer(config.optim, config.train.steps)
    assert {step: pytest.approx(rate) for step, rate in rates.items()} == {
        step: float(schedules["rest"](step)) for step in rates
    }


@pytest.mark.parametrize(
    ("name", "late", "early"),
    [
        ("basicvsr", ("spynet",), ("backward", "edvr")),
        ("iconvsr", ("spynet", "edvr"), ("backward",)),
        ("vrt", ("spynet", "stage1/deform"), ("conv_first",)),
        ("rvrt", ("spynet",), ("deform", "conv_first")),
    ],
)
def test_the_official_parts_are_frozen_at_first(name, late, early):
    """Updates of a constant gradient are zero until iteration `fix_flow`, and of their own rate."""
    optim = load_config(name).optim
    optim.fix_flow = 3
    params = {part: jnp.ones(1) for part in (*late, *early)}
    optimizer, rates = make_optimizer(optim, 100)
    update, state = jax.jit(optimizer.update), optimizer.init(params)
    for iteration in range(1, 5):
        updates, state = update(params, state, params)
        for part in params:
            rate = rates["spynet" if any(x in part for x in optim.flow_params) else "rest"]
            expected = -float(rate(iteration - 1)) if part in early or iteration >= 3 else 0.0
            assert float(updates[part][0]) == pytest.approx(expected, rel=1e-4), (part, iteration)
