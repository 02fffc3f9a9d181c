"""Names of RVRT (JingyunLiang/RVRT, models/network_rvrt.py) and of RVRT-Light in MindSpore
(mindspore-lab/mindediting, models/mutil_task/rvrt_light.py)."""

from jaxvsr.weights.rules import Rules
from jaxvsr.weights.spynet import SPYNET

RVRT = Rules(
    names=(
        *SPYNET.names,
        (r"^((?:backward|forward)_\d)/(backbone|deform_align)/", r"\2/\1/"),
        (r"^conv_down_(\d)/", lambda m: f"feat_extract/{2 * int(m[1]) + 1}/"),
        (r"^feat_extract_reduced/", "feat_extract/6/"),
        (r"/conv_in/", "/main/1/"),
        (r"/norm_in/", "/main/3/"),
        (r"/block_(\d+)_(\d+)/", r"/main/5/\1/residual_group/blocks/\2/"),
        (r"/linear_(\d+)/", r"/main/5/\1/linear/"),
        (r"/norm_out/", "/main/7/"),
        (r"/qkv/", "/qkv_self/"),
        (r"^(deform_align/\w+)/(proj_[qkv]|proj|mlp)/", r"\1/\2/1/"),
        (r"/conv_offset_(\d)/", lambda m: f"/conv_offset/{2 * int(m[1])}/"),
        (r"^conv_before_upsampler/", "conv_before_upsampler/0/"),
        (r"^head/upconv(\d)/", lambda m: f"upsampler/{5 * int(m[1]) - 5}/"),
        (r"^head/", ""),
        (r"scale$", "weight"),
        (r"/", "."),
    ),
    unused=r"relative_position_index$|^spynet\.(mean|std)$",
)
RVRT_LIGHT = Rules(
    names=(
        (r"(/norm\w+)/scale$", r"\1/gamma"),
        (r"(/norm\w+)/bias$", r"\1/beta"),
        *RVRT.names,
    ),
    unused=r"relative_position_index$",
)
