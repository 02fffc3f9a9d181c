"""Dead-leaves clips and their true flow, painted from a scene."""

import zlib

import numpy as np
from scipy import ndimage

from jaxvsr.data import degradations
from jaxvsr.pixels import to_integers

from . import scene, textures

SCALE = 4
_NUM_TILES = 6
_TEXELS = 2  # of a texture, per pixel
_INVISIBLE = np.float32(1 / 512)  # what is covered less than this does not show in 8 bits


def kind(index: int) -> str:
    """What moves in the clip of an index, one of scene.KINDS; half of the clips are "moving"."""
    return scene.KINDS[index % len(scene.KINDS)]


def render_clip(
    seed: int, split: str, index: int, num_frames: int, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Renders a clip: the same bytes for the same arguments, on every machine.

    Args:
        seed: of the data set, >= 0.
        split: name of the split; splits share no clip.
        index: of the clip in the split, >= 0; it sets the clip's kind.
        num_frames: t, > 0.
        size: (H, W), pixels, multiples of 4.

    Returns:
        "gt" (t, H, W, 3) uint8, "lq" (t, H/4, W/4, 3) uint8 its bicubic reduction, "flow_forward"
        and "flow_backward" (t, H/4, W/4, 2) float32: (dx, dy), in low-resolution pixels, from each
        low-resolution pixel's center to where the surface seen there is in the previous (next)
        frame, hidden there or not; zeros in the first (last) frame. "visible_forward" and
        "visible_backward" (t, H/4, W/4) uint8: 1 where that surface is seen there, as `true_flow`
        defines it; zeros in the first (last) frame.

    Raises:
        ValueError: a size is not a positive multiple of 4, or there are no frames.

    Source: Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 2001; Achddou,
    Gousseau, Ladjal, "Fully synthetic training for image restoration tasks", CVIU 2023.
    """
    leaves, tiles = random_clip(seed, split, index, num_frames, size)
    gt = to_integers(paint(leaves, tiles, num_frames, size))
    height, width = size[0] // SCALE, size[1] // SCALE
    owner = front_leaves(leaves, num_frames, size)
    clip = {"gt": gt, "lq": degradations.imresize(gt, 1 / SCALE)}
    for way, step in (("forward", -1), ("backward", 1)):
        flow = np.zeros((num_frames, height, width, 2), np.float32)
        visible = np.zeros((num_frames, height, width), np.uint8)
        for t in range(max(0, -step), min(num_frames, num_frames - step)):
            flow[t], visible[t] = true_flow(leaves, owner, t, t + step)
        clip |= {f"flow_{way}": flow, f"visible_{way}": visible}
    return clip


def random_clip(
    seed: int, split: str, index: int, num_frames: int, size: tuple[int, int]
) -> tuple[list[scene.Leaf], list[np.ndarray]]:
    """Draws the leaves and the textures of a clip.

    Args:
        seed, split, index, num_frames, size: as in render_clip.

    Returns:
        The leaves, front to back, and the textures, by the leaves' tile.

    Raises:
        ValueError: as render_clip.
    """
    if num_frames < 1 or any(s < SCALE or s % SCALE for s in size):
        raise ValueError(f"need frames, of sizes that {SCALE} divides: got {num_frames} of {size}")
    rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
    tiles = []
    for texels in rng.choice((64, 128, 256, 512), _NUM_TILES, p=(0.1, 0.35, 0.45, 0.1)):
        tiles.append(textures.random_texture(rng, int(texels)))
    return scene.random_scene(rng, kind(index), num_frames, size, _NUM_TILES), tiles


def paint(
    leaves: list[scene.Leaf], tiles: list[np.ndarray], num_frames: int, size: tuple[int, int]
) -> np.ndarray:
    """Paints leaves with soft edges, front to back, so that only what is seen is computed.

    Args:
        leaves: front to back.
        tiles: textures.random_texture's, by the leaves' tile.
        num_frames: t.
        size: (H, W), pixels.

    Returns:
        (t, H, W, 3) float32, about [0, 1], not clipped.
    """
    light = np.ones(num_frames * size[0] * size[1], np.float32)  # what the leaves in front let by
    image = np.zeros((light.size, 3), np.float32)
    for leaf in leaves:
        gloom, width = leaf.gloom
        margin = max(width, leaf.softness / 2)
        places, u, v = _near(leaf, num_frames, size, 1, margin)
        distance = leaf.outline(u, v) * np.float32(leaf.radius)
        close = distance < margin
        places, u, v, distance = places[close], u[close], v[close], distance[close]
        cover = _smoothstep(0.5 - distance / np.float32(leaf.softness))
        shade = np.float32(gloom) * _smoothstep(1 - distance / np.float32(width))
        behind = light[places]
        light[places] = behind * (1 - cover) * (1 - shade)
        cover *= behind
        seen = cover > _INVISIBLE
        color = _surface(leaf, tiles[leaf.tile], u[seen], v[seen])
        image[places[seen]] += cover[seen][:, None] * color
    return image.reshape(num_frames, *size, 3)


def _smoothstep(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, a cubic between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _surface(leaf: scene.Leaf, tile: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Colors (n, 3) of the points (u, v) of a leaf, in radii."""
    weave = _TEXELS * leaf.radius * leaf.weave
    a, b = np.float32(weave.real), np.float32(weave.imag)
    texels = np.stack([a * v + b * u, a * u - b * v])
    rgb = leaf.colors[0]
    for pattern, change in zip(tile, leaf.colors[1:], strict=True):
        value = ndimage.map_coordinates(pattern, texels, order=3, mode="grid-wrap", prefilter=False)
        rgb = rgb + value[:, None] * change
    along_u, along_v, rim = leaf.shading
    return rgb * (1 + along_u * u + along_v * v + rim * (u * u + v * v))[:, None]


def front_leaves(
    leaves: list[scene.Leaf], num_frames: int, size: tuple[int, int], scale: int = SCALE
) -> np.ndarray:
    """Which leaf is seen at each low-resolution pixel's center.

    Args:
        leaves: front to back, the last without an edge.
        num_frames: t.
        size: (H, W), pixels, multiples of scale.
        scale: pixels per low-resolution pixel.

    Returns:
        (t, H/scale, W/scale) int, indices of leaves.
    """
    height, width = size[0] // scale, size[1] // scale
    seen = np.full(num_frames * height * width, -1)
    for index, leaf in enumerate(leaves):
        places, u, v = _near(leaf, num_frames, size, scale, 0.0)
        inside = (leaf.outline(u, v) < 0) & (seen[places] < 0)
        seen[places[inside]] = index
    return seen.reshape(num_frames, height, width)


def true_flow(
    leaves: list[scene.Leaf], owner: np.ndarray, t: int, other: int, scale: int = SCALE
) -> tuple[np.ndarray, np.ndarray]:
    """Flow from one frame to another of the leaf at each low-resolution pixel's center.

    Args:
        leaves: front to back.
        owner: (t, h, w), of front_leaves.
        t, other: indices of the two frames.
        scale: as of owner.

    Returns:
        (h, w, 2) float32 (dx, dy) in low-resolution pixels, and (h, w) bool: whether the point is
        inside the other frame and the low-resolution pixel nearest to it shows the same leaf.
    """
    height, width = owner.shape[1:]
    middle = (scale - 1) / 2
    here = scale * (np.arange(width) + 1j * np.arange(height)[:, None]) + complex(middle, middle)
    path = np.stack([leaf.path for leaf in leaves])
    pose = np.stack([leaf.pose for leaf in leaves])
    leaf = owner[t]
    there = path[leaf, other] + pose[leaf, other] / pose[leaf, t] * (here - path[leaf, t])
    moved = (there - here) / scale
    # Complex products of different machines may differ in the last bit: drop that.
    flow = (np.round(np.stack([moved.real, moved.imag], -1) * 4096) / 4096).astype(np.float32)
    x = np.rint(np.arange(width) + flow[..., 0]).astype(int)
    y = np.rint(np.arange(height)[:, None] + flow[..., 1]).astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = owner[other, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return flow, inside & (found == leaf)


def _near(
    leaf: scene.Leaf, num_frames: int, size: tuple[int, int], step: int, margin: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The grid points within reach of a leaf: in each frame a window, of the same shape in all.

    Args:
        step: pixels between grid points; point (i, j) is the center of its block of pixels.
        margin: pixels by which the window is wider than the leaf.

    Returns:
        Arrays of the same shape (t, n, m): flat index into an array (t, H/step, W/step), and the
        leaf's point (u, v) there, in radii.
    """
    reach = leaf.reach * leaf.radius * np.abs(leaf.pose).max() + margin
    rows, columns = size[0] // step, size[1] // step
    i = _span(leaf.path.imag, reach, rows, step)
    j = _span(leaf.path.real, reach, columns, step)
    places = (np.arange(num_frames)[:, None] * rows + i)[:, :, None] * columns + j[:, None]
    dy = (step * i + (step - 1) / 2 - leaf.path.imag[:, None]).astype(np.float32)[:, :, None]
    dx = (step * j + (step - 1) / 2 - leaf.path.real[:, None]).astype(np.float32)[:, None]
    inverse = (1 / (leaf.pose * leaf.radius))[:, None, None]
    a, b = inverse.real.astype(np.float32), inverse.imag.astype(np.float32)
    return places, a * dx - b * dy, a * dy + b * dx


def _span(center: np.ndarray, reach: float, count: int, step: int) -> np.ndarray:
    """Grid indices (t, n) that hold [center - reach, center + reach], as far as the grid goes."""
    length = min(count, int(np.ceil(2 * reach / step)) + 1)
    first = np.floor((center - reach) / step).astype(int)
    return np.clip(first, 0, count - length)[:, None] + np.arange(length)
