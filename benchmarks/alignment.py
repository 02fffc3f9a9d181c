"""The alignment logits of FANI at random starts: are its softmax and its gradient alive?

    python -m benchmarks.alignment

FANI aligns its neighboring frames by attention between the three colors. The logits are taken
from an untrained network on a crop of three frames of dead leaves. Prints, for four scalings of the
logits, the median gap between the two largest of a row and the number of starts whose softmax has a
gradient in float32, that is, has a weight other than 0 and 1.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import machine, make_parser
from jaxvsr import models
from jaxvsr.data.degradations import imresize
from jaxvsr.evaluation.markdown import markdown
from tfds_builders.dead_leaves import render


def logits_of(seed: int, lq: jax.Array) -> np.ndarray:
    """Logits (t, 3, 3) of an untrained FANI on a clip (1, t, h, w, 3) in [0, 1]."""
    model = models.create("fani")
    variables = jax.jit(model.init)(jax.random.key(seed), lq)
    _, sown = jax.jit(lambda v, lq: model.apply(v, lq, mutable="intermediates"))(variables, lq)
    return np.asarray(sown["intermediates"]["align"]["logits"][0][0])


def scalings(pixels: int) -> Mapping[str, float]:
    """Title to factor on the logits."""
    return {
        "sums, of 0..255 (official code)": 1.0,
        "means, of 0..255": 1 / pixels,
        "sums, of 0..1": 1 / 255**2,
        "means, of 0..1 (`scaled`)": 1 / (pixels * 255**2),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints the table."""
    parser = make_parser("alignment", __doc__)
    parser.add_argument("--starts", type=int, default=8, help="random starts")
    parser.add_argument("--size", type=int, default=64, help="side of the crop in input pixels")
    options = parser.parse_args(argv)
    side = options.size
    gt = render.render_clip(0, "val", 0, 3, (4 * side, 4 * side))["gt"]
    lq = jnp.asarray(imresize(gt, 1 / 4)[None], jnp.float32) / 255
    logits = np.stack([logits_of(seed, lq) for seed in range(options.starts)])
    rows = []
    for title, factor in scalings(side**2).items():
        scaled = np.sort(logits * np.float32(factor), axis=-1)
        weights = np.asarray(jax.nn.softmax(jnp.asarray(scaled)))
        alive = ((weights > 0) & (weights < 1)).reshape(len(logits), -1).any(1)
        gap = np.median(scaled[..., -1] - scaled[..., -2])
        rows.append([title, f"{gap:,.{0 if gap > 10 else 2}f}", f"{alive.sum()} of {len(logits)}"])
    heads = ["logits", "median gap between the two largest", "starts with a gradient"]
    print(markdown(heads, rows))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
