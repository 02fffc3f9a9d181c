"""What is in a dead-leaves clip: the leaves, their surfaces and their motion, drawn at random.

Complex numbers stand for points and vectors, x + iy in pixels of the video; the center of pixel
(0, 0) is 0.
"""

import dataclasses

import numpy as np

from . import shapes

# Half width in pixels. What is thinner than its edges are soft shimmers as it moves; finer lines
# are left to the textures, which are filtered.
_THINNEST = 1.0

# What happens in a clip, by the remainder of its index: half of the clips have a moving camera.
KINDS = ("moving", "tripod", "moving", "stop-and-go")

_Motion = tuple[np.ndarray, np.ndarray]  # path and pose of a leaf, (t,) complex


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A flat, opaque, textured thing. Its point p is at path[t] + pose[t] * p in frame t."""

    path: np.ndarray  # (t,) complex, the center
    pose: np.ndarray  # (t,) complex, rotation and zoom
    outline: shapes.Outline
    radius: float  # pixels
    reach: float  # no point of the leaf is further from its center, in radii
    softness: float  # width of the edge, pixels where pose is 1
    gloom: tuple[float, float]  # its shade on what is behind: strength 0..1, width in pixels
    tile: int  # which texture
    weave: complex  # pixels of the texture per pixel of the leaf, and their direction
    colors: np.ndarray  # (3, 3) float32 RGB: base, and its change with the texture's two patterns
    shading: np.ndarray  # (3,) float32: brightness along u, along v, and towards the rim


@dataclasses.dataclass(frozen=True)
class _Style:
    """What the leaves of a clip share."""

    num_tiles: int
    tint: np.ndarray  # (2,) mean chroma
    saturation: float
    gloom: float


@dataclasses.dataclass(frozen=True)
class _Movers:
    """How the leaves of a clip move by themselves.

    Attributes:
        fraction: of the leaves that do.
        speed: standard deviation of each component of their velocity, pixels per frame.
        clock: (t,) scene time of each frame.
    """

    fraction: float
    speed: float
    clock: np.ndarray


def random_scene(
    rng: np.random.Generator, kind: str, num_frames: int, size: tuple[int, int], num_tiles: int
) -> list[Leaf]:
    """Draws a scene.

    Radii are distributed as r^-3, which makes the scene look alike at all scales; nearer leaves
    hide the others and, under a moving camera, move faster; some move by themselves.

    Args:
        rng: source of all randomness.
        kind: one of KINDS. "moving": the camera moves. "tripod": it stands still, and some leaves
            move over a still ground. "stop-and-go": the camera, the leaves or both hold and move
            again; where both do, whole frames repeat, as in animation.
        num_frames: t, > 0.
        size: (H, W), pixels.
        num_tiles: number of textures to choose from.

    Returns:
        The leaves, front to back. The last is the ground, which has no edge.
    """
    height, width = size
    camera_clock, clock = _clocks(rng, kind, num_frames)
    camera = _random_camera(rng, camera_clock)
    if camera_clock.any():
        movers = _Movers(0.4, 1.2, clock)
    else:  # fewer and faster, so that still and moving areas are told apart
        speed = np.exp(rng.uniform(np.log(1.0), np.log(4.0)))
        movers = _Movers(rng.uniform(0.15, 0.45), speed, clock)
    style = _Style(
        num_tiles=num_tiles,
        tint=rng.normal(0, 0.05, 2),
        saturation=np.exp(rng.uniform(np.log(0.4), np.log(1.4))),
        gloom=max(0.0, rng.uniform(-0.2, 0.6)),
    )
    # A small r_min takes many leaves to fill the frame: then leave gaps.
    r_min, r_max = np.exp(rng.uniform(np.log(4), np.log(12))), 0.4 * max(size)
    layers = min(rng.uniform(1, 3), 2.5 * (r_min / 8) ** 2)
    mean_area = 2 * np.pi * r_min**2 * np.log(r_max / r_min)
    leaves = []
    for depth in np.linspace(0, 1, max(1, int(layers * height * width / mean_area))):
        if rng.uniform() < 0.08:
            half_width = rng.uniform(_THINNEST, 3)
            radius = np.exp(rng.uniform(np.log(10 * half_width), np.log(max(size))))
            outline, reach = shapes.random_bar(rng, half_width / radius)
        else:
            # The inverse of the distribution function.
            radius = r_min / np.sqrt(1 - rng.uniform() * (1 - (r_min / r_max) ** 2))
            outline, reach = shapes.random_outline(rng, _THINNEST / radius)
        motion = _random_motion(rng, camera, movers, 1.4 - 0.8 * depth, size)
        leaves.append(_random_leaf(rng, style, motion, outline, radius, reach))
    shift, turn = camera
    motion = _center(size) + 0.6 * shift, turn
    leaves.append(_random_leaf(rng, style, motion, shapes.everywhere, max(size), 3.0))
    return leaves


def _center(size: tuple[int, int]) -> complex:
    return complex(size[1] - 1, size[0] - 1) / 2


def _clocks(rng: np.random.Generator, kind: str, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Scene time (t,) of each frame, for the camera and for the leaves: it stops where they do."""
    time, still = np.arange(num_frames), np.zeros(num_frames, int)
    if kind == "moving":
        return time, time
    if kind == "tripod":
        return still, time
    if kind != "stop-and-go":
        raise ValueError(f"kind must be one of {', '.join(sorted(set(KINDS)))}, got {kind!r}")
    go, hold = rng.integers(1, 5, 2)
    held = np.cumsum((time + rng.integers(go + hold)) % (go + hold) < go)
    clocks = (held, held), (held, time), (still, held)
    return clocks[rng.integers(len(clocks))]


def _random_camera(rng: np.random.Generator, clock: np.ndarray) -> _Motion:
    """Shift (t,) in pixels, and pose (t,) about the frame's middle, of what is at nearness 1."""
    time = clock - (len(clock) - 1) / 2
    speed = np.exp(rng.uniform(np.log(0.7), np.log(6.0)))
    velocity = speed * np.exp(2j * np.pi * rng.uniform())
    bend = speed * complex(*rng.normal(0, 0.03, 2))
    shake = complex(*rng.normal(0, 0.6, 2))
    swing = np.sin(2 * np.pi * (time / rng.uniform(8, 30) + rng.uniform()))
    zoom, roll = rng.normal(0, 0.002), rng.normal(0, 0.004)  # per frame
    return velocity * time + bend * time**2 + shake * swing, np.exp(complex(zoom, roll) * time)


def _random_motion(
    rng: np.random.Generator,
    camera: _Motion,
    movers: _Movers,
    nearness: float,
    size: tuple[int, int],
) -> _Motion:
    """Path and pose of a leaf."""
    shift, turn = camera
    turn = np.abs(turn) ** (nearness - 1) * turn
    # Its place is uniform in a random frame, so that all frames are equally full.
    place = complex(*(rng.uniform(-0.1, 1.1, 2) * size[::-1]))
    here = rng.integers(len(shift))
    middle = _center(size)
    path = middle + turn / turn[here] * (place - middle) + nearness * (shift - shift[here])
    pose = turn * np.exp(2j * np.pi * rng.uniform())
    if rng.uniform() < movers.fraction:
        time = movers.clock - movers.clock[here]
        velocity = complex(*rng.normal(0, movers.speed, 2))
        bend = velocity * complex(*rng.normal(0, 0.03, 2))
        path = path + velocity * time + bend * time**2
        pose = pose * np.exp(complex(rng.normal(0, 0.003), rng.normal(0, 0.02)) * time)
    return path, pose


def _random_leaf(
    rng: np.random.Generator,
    style: _Style,
    motion: _Motion,
    outline: shapes.Outline,
    radius: float,
    reach: float,
) -> Leaf:
    contrast = np.exp(rng.uniform(np.log(0.02), np.log(0.18)))
    vivid = style.saturation
    colors = (
        _rgb(rng.uniform(0.02, 0.98), vivid * (style.tint + 0.08 * rng.standard_t(4, 2))),
        contrast * _rgb(1, vivid * rng.normal(0, 0.1, 2)),
        contrast * _rgb(rng.uniform(-0.7, 0.7), vivid * rng.normal(0, 0.3, 2)),
    )
    in_focus = rng.uniform() < 0.85
    return Leaf(
        path=motion[0],
        pose=motion[1],
        outline=outline,
        radius=radius,
        reach=reach,
        softness=rng.uniform(2.2, 2.8) if in_focus else rng.uniform(3, 6),
        gloom=(style.gloom, rng.uniform(0.5, 2) + 0.15 * min(radius, 40)),
        tile=int(rng.integers(style.num_tiles)),
        weave=rng.uniform(0.85, 1.2) * np.exp(2j * np.pi * rng.uniform()),
        colors=np.array(colors, np.float32),
        shading=np.array([*rng.normal(0, 0.2, 2), rng.uniform(-0.3, 0.1)], np.float32),
    )


def _rgb(grey: float, chroma: np.ndarray) -> np.ndarray:
    """RGB from a grey level and the chroma of photographs: blue-yellow, weaker green-magenta."""
    return grey + chroma[0] * np.array((0.9, 0.3, -1.2)) + chroma[1] * np.array((0.4, -0.4, 0.2))
