"""Backgrounds of the demo data: random landscapes that know nothing of the classes in front of them."""

import numpy as np
from numpy.random import Generator

from oaa_tf.demo.drawing import REACH, Pair, Sprite, draws, hsv, mix, noise, polar, smooth_curve, smoothstep


def draw_scene(rng: Generator, height: int, width: int, light: np.ndarray) -> tuple[np.ndarray, float]:
    """Draws one landscape.

    Args:
        rng: Source of randomness.
        height: Rows of the result.
        width: Columns of the result.
        light: Direction towards the light `[3]` (x right, y down, z towards the viewer).

    Returns:
        The picture, float32 `[height, width, 3]`, and the row of the horizon as a share of the height: the ground lies
        below it. It is 0 where the ground fills the picture.
    """
    horizon = 0.0 if rng.random() < 0.25 else rng.uniform(0.28, 0.55)
    rows = np.repeat(np.linspace(0, 1, height, dtype=np.float32)[:, None], width, 1)
    nearness = np.clip((rows - horizon) / (1 - horizon), 0, 1)
    picture = rng.choice(_GROUNDS)(rng, nearness)
    if horizon:
        sky, haze = _sky(rng, rows, horizon)
        edge = horizon + 0.03 * (noise(rng, (1, width), rng.uniform(1.5, 4)) - 0.5)
        ground = mix(picture, haze, 0.55 * np.exp(-7 * nearness))
        picture = mix(sky, ground, smoothstep(-0.004, 0.004, rows - edge))
    picture = _with_clutter(rng, picture, horizon, light)
    return np.clip(picture, 0, 1).astype(np.float32), horizon


_SKIES = (  # Colors of zenith and haze: clear, overcast and evening.
    (((0.55, 0.63), (0.45, 0.7), (0.7, 0.92)), (0.55, 0.12, 0.96)),
    ((0.58, (0.05, 0.15), (0.55, 0.72)), (0.58, 0.05, 0.85)),
    (((0.6, 0.72), 0.45, (0.4, 0.6)), ((0.02, 0.1), 0.45, 0.97)),
)


def _sky(rng: Generator, rows: np.ndarray, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """A sky with clouds and up to three ridges of hills, the farther the paler, and the color of the haze."""
    zenith, haze = (hsv(*color, rng) for color in _SKIES[rng.choice(3, p=[0.55, 0.25, 0.2])])
    sky = mix(zenith, haze, np.clip(rows / horizon, 0, 1) ** 1.3)
    clouds = noise(rng, rows.shape, rng.uniform(2.5, 5), 4, aspect=2.2)
    cover = rng.uniform(0.45, 0.65)
    sky = mix(sky, np.clip(haze * 1.08, 0, 1), 0.85 * smoothstep(cover, cover + 0.2, clouds))

    hue = rng.choice([0.28, 0.36, 0.08, 0.6]) + rng.uniform(-0.03, 0.03)
    num_ridges = int(rng.integers(0, 4))
    for ridge in range(num_ridges):
        depth = 1 - (ridge + 1) / (num_ridges + 1)
        top = horizon * (1 - 0.75 * depth * rng.uniform(0.5, 1))
        line = top - horizon * 0.45 * (noise(rng, (1, rows.shape[1]), rng.uniform(2, 6), 4) - 0.4)
        color = mix(hsv(hue, (0.3, 0.5), (0.35, 0.5), rng), haze, 0.25 + 0.5 * depth)
        hills = color * (0.85 + 0.3 * noise(rng, rows.shape, 18, 3))[..., None]
        sky = mix(sky, hills, smoothstep(-0.006, 0.006, rows - line))
    return sky, haze


# Grounds: each takes the nearness `[height, width]`, 0 at the horizon and 1 at the lower edge.


def _streaks(rng: Generator, nearness: np.ndarray, cells: float, octaves: int, aspects: Pair = (3, 1.4)) -> np.ndarray:
    """Noise that is streaky in the distance and coarse in front; `aspects` are those of far and near cells."""
    far = noise(rng, nearness.shape, cells * 2, octaves, aspects[0])
    near = noise(rng, nearness.shape, cells, octaves, aspects[1])
    return far * (1 - nearness) + near * nearness


def _meadow(rng: Generator, nearness: np.ndarray) -> np.ndarray:
    hue = rng.uniform(0.17, 0.32)
    dark, bright = hsv(hue + 0.03, 0.65, (0.25, 0.4), rng), hsv(hue - 0.03, 0.5, (0.6, 0.8), rng)
    patches = _streaks(rng, nearness, rng.uniform(3, 6), 4)
    blades = noise(rng, nearness.shape, 70, aspect=0.35)
    grass = mix(dark, bright, np.clip(0.55 * patches + 0.45 * blades, 0, 1))
    if rng.random() < 0.5:
        flowers = smoothstep(0.84, 0.92, noise(rng, nearness.shape, 75, 1)) * smoothstep(0.35, 0.6, patches)
        grass = mix(grass, hsv((0.7, 1.2), (0.1, 0.8), 0.95, rng), 0.85 * flowers)
    return grass


def _sand(rng: Generator, nearness: np.ndarray) -> np.ndarray:
    hue = rng.uniform(0.06, 0.12)
    dunes = _streaks(rng, nearness, rng.uniform(2, 4), 3)
    ripples = 0.5 + 0.5 * np.sin(2 * np.pi * (dunes * 5 + (1 - nearness) ** 2 * rng.uniform(8, 16)))
    grains = noise(rng, nearness.shape, 90, 1)
    shade = np.clip(0.5 * dunes + 0.3 * ripples + 0.2 * grains, 0, 1)
    return mix(hsv(hue, 0.5, (0.5, 0.65), rng), hsv(hue + 0.02, 0.3, 0.95), shade)


def _snow(rng: Generator, nearness: np.ndarray) -> np.ndarray:
    drifts = _streaks(rng, nearness, rng.uniform(2, 5), 4)
    shade = np.clip(drifts * 0.9 + noise(rng, nearness.shape, 80, 1) * 0.2, 0, 1)
    snow = mix(hsv((0.56, 0.66), 0.25, 0.72, rng), hsv(0.58, 0.03, 0.98), shade)
    earth = smoothstep(0.62, 0.85, noise(rng, nearness.shape, 6, 5))
    return mix(snow, hsv(0.08, 0.3, 0.35), 0.7 * earth)


def _water(rng: Generator, nearness: np.ndarray) -> np.ndarray:
    """Shallow water that runs out on a beach in front."""
    hue = rng.uniform(0.48, 0.6)
    waves = _streaks(rng, nearness, 5, 3, (5.0, 3.0))
    sea = mix(hsv(hue, 0.7, (0.35, 0.55), rng), hsv(hue - 0.03, 0.3, 0.88), smoothstep(0.3, 0.75, waves))
    shore = rng.uniform(0.3, 0.8) + 0.25 * (noise(rng, (1, nearness.shape[1]), rng.uniform(1.5, 3), 3) - 0.5)
    foam = np.exp(-(((nearness - shore) / 0.025) ** 2)) * (0.4 + 0.6 * waves)
    beach = mix(sea, _sand(rng, nearness), smoothstep(-0.02, 0.02, nearness - shore))
    return mix(beach, np.full(3, 0.96, np.float32), 0.8 * foam)


def _earth(rng: Generator, nearness: np.ndarray) -> np.ndarray:
    """Forest floor or gravel: cells of many sizes in muted colors."""
    hue = rng.uniform(0.03, 0.12)
    lumps = _streaks(rng, nearness, rng.uniform(8, 14), 3)
    dark, bright = hsv(hue, (0.2, 0.5), 0.24, rng), hsv(hue + 0.02, (0.1, 0.4), 0.75, rng)
    floor = mix(dark, bright, smoothstep(0.2, 0.85, lumps))
    moss = smoothstep(0.52, 0.7, _streaks(rng, nearness, rng.uniform(3, 6), 4))
    return mix(floor, hsv((0.14, 0.3), 0.5, 0.5, rng) * (0.6 + 0.7 * lumps)[..., None], 0.75 * moss)


def _paving(rng: Generator, nearness: np.ndarray) -> np.ndarray:
    """Flagstones in perspective."""
    tone = hsv((0.04, 0.62), (0.03, 0.2), (0.5, 0.75), rng)
    distance = 1 / (0.25 + nearness)
    shift, across, down = draws(rng, (-0.5, 0.5), (2, 3), (4, 6))
    row = distance * down
    column = (np.linspace(-1, 1, nearness.shape[1], dtype=np.float32) + shift) * distance * across
    column = column + 0.5 * (np.floor(row) % 2)
    joint = np.maximum(np.abs(row % 1 - 0.5), np.abs(column % 1 - 0.5))
    tint = (np.sin(np.floor(row) * 12.9 + np.floor(column) * 78.2) * 43758.5) % 1
    stone = 0.72 + 0.25 * tint + 0.3 * (noise(rng, nearness.shape, 24, 4) - 0.5)
    return tone * (stone * (1 - 0.4 * smoothstep(0.43, 0.49, joint)))[..., None]


_GROUNDS = (_meadow, _meadow, _sand, _snow, _water, _earth, _paving)


# Clutter: trees, bushes and stones, drawn with the objects' own tools and light.


def _with_clutter(rng: Generator, picture: np.ndarray, horizon: float, light: np.ndarray) -> np.ndarray:
    """Stands things on the ground of a picture, far ones first."""
    height, width = picture.shape[:2]
    kinds = rng.choice(len(_CLUTTER), size=2)
    for foot in np.sort(rng.uniform(horizon + 0.03, 1.05, rng.integers(1, 7))):
        depth = (foot - horizon) / (1.0 - horizon)
        size = int(max(height, width) * (0.14 + 0.3 * depth) * rng.uniform(0.7, 1.2))
        sprite = Sprite(size, light)
        draw, half_width = _CLUTTER[rng.choice(kinds)]
        sprite.cast_shadow((0, 0.88), (half_width, 0.12), 0.5, 1)
        draw(sprite, rng)
        top = round(foot * height - (0.9 / REACH + 1) / 2 * size)
        left = round(rng.uniform(-0.1, 1.1) * width - size / 2)
        color, alpha, shadow = sprite.placed(np.array([(1.0, 0, left), (0, 1, top)]), width, height)
        picture = picture * (1 - shadow)[..., None] * (1 - alpha)[..., None] + color
    return picture


def _lumpy(rng: Generator, center: tuple[float, float], radius: float, roughness: float) -> np.ndarray:
    radii = radius * rng.uniform(1 - roughness, 1 + roughness, 12)
    return smooth_curve(center + polar(np.linspace(0, 2 * np.pi, 12, endpoint=False), radii))


def _stone(sprite: Sprite, rng: Generator) -> None:
    tone = hsv((0.02, 0.65), (0.0, 0.2), (0.4, 0.75), rng)
    grain = tone * (0.7 + 0.6 * sprite.noise(rng, 8, 4))[..., None]
    outline = _lumpy(rng, (0, 0), 0.62, 0.22) * (1, rng.uniform(0.5, 0.8))
    sprite.paint([outline + (0, 0.9 - outline[:, 1].max())], grain)


def _leaves(sprite: Sprite, rng: Generator) -> np.ndarray:
    hue = rng.uniform(0.05, 0.13) if rng.random() < 0.25 else rng.uniform(0.2, 0.4)
    return hsv(hue, (0.4, 0.7), (0.4, 0.65), rng) * (0.55 + 0.9 * sprite.noise(rng, 16, 3))[..., None]


def _bush(sprite: Sprite, rng: Generator) -> None:
    leaves = _leaves(sprite, rng)
    for _ in range(rng.integers(3, 6)):
        center = draws(rng, (-0.4, 0.4), (0.35, 0.55))
        sprite.paint([_lumpy(rng, center, rng.uniform(0.28, 0.38), 0.14)], leaves)


def _tree(sprite: Sprite, rng: Generator) -> None:
    bark = hsv((0.04, 0.09), 0.4, (0.25, 0.45), rng)
    leaves = _leaves(sprite, rng)
    lean = rng.uniform(-0.1, 0.1)
    sprite.limb([(0, 0.88), (lean / 2, 0.3), (lean, -0.3)], (0.1, 0.07, 0.05), bark)
    if rng.random() < 0.4:
        for tier in range(3):
            top, half = -1.0 + 0.42 * tier, 0.3 + 0.12 * tier
            outline = [(lean, top), (half, top + 0.72), (0, top + 0.64), (-half, top + 0.72)]
            sprite.paint([np.array(outline)], leaves, relief=0.5)
        return
    for _ in range(rng.integers(4, 7)):
        center = lean + rng.uniform(-0.38, 0.38), rng.uniform(-0.75, -0.1)
        sprite.paint([_lumpy(rng, center, rng.uniform(0.28, 0.42), 0.14)], leaves)


def _post(sprite: Sprite, rng: Generator) -> None:
    wood = hsv((0.05, 0.1), (0.1, 0.4), (0.35, 0.6), rng)
    grain = wood * (0.7 + 0.6 * sprite.noise(rng, 20, aspect=0.2))[..., None]
    top = rng.uniform(-0.3, 0.3)
    sprite.limb([(0, 0.88), (rng.uniform(-0.06, 0.06), top)], 0.09, grain, relief=0.5)
    if rng.random() < 0.5:
        sprite.ellipse((0, top), (0.2, 0.13), grain * 1.1)


_CLUTTER = ((_stone, 0.8), (_bush, 0.9), (_tree, 0.5), (_post, 0.4))  # What draws it, and half the width of its shadow.
