"""Names of VRT in the official code (JingyunLiang/VRT, models/network_vrt.py)."""

from jaxvsr.weights.rules import Rules
from jaxvsr.weights.spynet import SPYNET

VRT = Rules(
    names=(
        *SPYNET.names,
        (r"conv_offset_(\d)/", lambda m: f"conv_offset.{2 * int(m[1])}."),
        (r"pa_deform/deform/", "pa_deform."),
        (r"stage8_norm/", "stage8.0.1."),
        (r"stage8_linear/", "stage8.0.2."),
        (r"stage8_(\d+)/", r"stage8.\1."),
        (r"reshape_norm/", "reshape.1."),
        (r"reshape_linear/", "reshape.2."),
        (r"group(\d?)/block_(\d+)/", r"residual_group\1.blocks.\2."),
        (r"/qkv/", "/qkv_self/"),
        (r"conv_before_upsample/", "conv_before_upsample.0."),
        (r"^head/upconv(\d)/", lambda m: f"upsample.{5 * int(m[1]) - 5}."),
        (r"^head/", ""),
        (r"scale$", "weight"),
        (r"/", "."),
    ),
    unused=r"relative_position_index$|position_bias$|^spynet\.(mean|std)$",
)
