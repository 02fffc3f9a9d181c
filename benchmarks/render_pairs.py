"""Renders pairs of frames of dead leaves with their true flow, on all cores, into a folder.

    python -m benchmarks.render_pairs FOLDER --workers=14

Runs until it is stopped or the folder holds `--clips` files; the same command resumes. A file is a
clip: p pairs of its frames, as `pairs` gives them. Needs neither JAX nor TFDS.
"""

import numpy as np

from benchmarks import render_clips
from jaxvsr.data.degradations import imresize
from jaxvsr.pixels import to_integers
from tfds_builders.dead_leaves import render

SIDE, FRAMES, PAIRS = 128, 7, 6  # pixels, frames that are rendered, pairs of them
# Rendered pixels per pixel, and how often: more give sharper frames, as reduced video has.
SCALES = {2: 0.5, 3: 0.3, 4: 0.2}
INTERVALS = {1: 0.4, 2: 0.25, 3: 0.15, 4: 0.1, 6: 0.1}  # between the frames of a pair


def pairs(seed: int, index: int) -> dict[str, np.ndarray]:
    """Renders a clip and draws pairs of its frames.

    Args:
        seed: of all clips.
        index: of the clip, >= 0; it sets the clip's kind.

    Returns:
        "frames" (p, 2, 128, 128, 3) uint8; "flow" (p, 2, 128, 128, 2) float16, in pixels, from the
        first frame to the second and back; "visible" (p, 2, 128, 128) uint8, as in the data set.
    """
    rng = np.random.default_rng([seed, index])
    scale = int(rng.choice(list(SCALES), p=list(SCALES.values())))
    size = (scale * SIDE, scale * SIDE)
    leaves, tiles = render.random_clip(seed, "flow", index, FRAMES, size)
    lq = imresize(to_integers(render.paint(leaves, tiles, FRAMES, size)), 1 / scale)
    owner = render.front_leaves(leaves, FRAMES, size, scale)
    out: dict[str, list] = {"frames": [], "flow": [], "visible": []}
    for interval in rng.choice(list(INTERVALS), PAIRS, p=list(INTERVALS.values())):
        first = int(rng.integers(FRAMES - interval))
        ends = first, first + int(interval)
        flows, visible = zip(
            *(render.true_flow(leaves, owner, t, s, scale) for t, s in (ends, ends[::-1])),
            strict=True,
        )
        out["frames"].append(lq[list(ends)])
        out["flow"].append(np.stack(flows).astype(np.float16))
        out["visible"].append(np.stack(visible).astype(np.uint8))
    return {name: np.stack(arrays) for name, arrays in out.items()}


if __name__ == "__main__":
    render_clips.render_files(pairs, render_clips.make_parser(__doc__).parse_args())
