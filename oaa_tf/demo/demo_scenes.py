"""Backgrounds of the demo data: random landscapes that know nothing of the classes in front of them."""

import numpy as np

from oaa_tf.demo.demo_drawing import REACH, Sprite, ellipse, hsv, limb, mix, noise, smooth_curve, smoothstep


def draw_scene(rng: np.random.Generator, height: int, width: int, light: np.ndarray) -> tuple[np.ndarray, float]:
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
    horizon = 0.0 if rng.random() < 0.25 else float(rng.uniform(0.28, 0.55))
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
    columns = np.linspace(0, 1, width, dtype=np.float32)[None, :] * np.ones((height, 1), np.float32)
    nearness = np.clip((rows - horizon) / (1 - horizon), 0, 1)
    ground = _GROUNDS[rng.integers(len(_GROUNDS))](rng, height, width, nearness)
    if horizon == 0.0:
        picture = ground
    else:
        sky, haze = _sky(rng, rows, horizon)
        picture = _far_hills(rng, sky, haze, rows, columns, horizon)
        edge = horizon + 0.03 * (noise(rng, 1, width, rng.uniform(1.5, 4), 2) - 0.5)
        veil = 0.55 * np.exp(-7 * nearness)
        picture = mix(picture, mix(ground, haze, veil), smoothstep(-0.004, 0.004, rows - edge))
    picture = _with_clutter(rng, picture, horizon, light)
    return np.clip(picture, 0, 1).astype(np.float32), horizon


def _sky(rng: np.random.Generator, rows: np.ndarray, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """A clear, overcast or evening sky with clouds, and the color of the haze at its foot."""
    weather = rng.choice(["clear", "overcast", "evening"], p=[0.55, 0.25, 0.2])
    if weather == "clear":
        zenith, haze = (
            hsv(rng.uniform(0.55, 0.63), rng.uniform(0.45, 0.7), rng.uniform(0.7, 0.92)),
            hsv(0.55, 0.12, 0.96),
        )
    elif weather == "overcast":
        zenith, haze = hsv(0.58, rng.uniform(0.05, 0.15), rng.uniform(0.55, 0.72)), hsv(0.58, 0.05, 0.85)
    else:
        zenith, haze = hsv(rng.uniform(0.6, 0.72), 0.45, rng.uniform(0.4, 0.6)), hsv(rng.uniform(0.02, 0.1), 0.45, 0.97)
    sky = mix(zenith, haze, np.clip(rows / horizon, 0, 1) ** 1.3)
    clouds = noise(rng, *rows.shape, rng.uniform(2.5, 5), 4, aspect=2.2)
    cover = rng.uniform(0.45, 0.65)
    return mix(sky, np.clip(haze * 1.08, 0, 1), 0.85 * smoothstep(cover, cover + 0.2, clouds)), haze


def _far_hills(
    rng: np.random.Generator, sky: np.ndarray, haze: np.ndarray, rows: np.ndarray, columns: np.ndarray, horizon: float
) -> np.ndarray:
    """Up to three ridges, the farther the paler."""
    picture = sky
    hue = rng.choice([0.28, 0.36, 0.08, 0.6]) + rng.uniform(-0.03, 0.03)
    num_ridges = int(rng.integers(0, 4))
    for ridge in range(num_ridges):
        depth = 1 - (ridge + 1) / (num_ridges + 1)
        top = horizon * (1 - 0.75 * depth * rng.uniform(0.5, 1))
        line = top - horizon * 0.45 * (noise(rng, 1, rows.shape[1], rng.uniform(2, 6), 4) - 0.4)
        color = mix(hsv(hue, rng.uniform(0.3, 0.5), rng.uniform(0.35, 0.5)), haze, np.float32(0.25 + 0.5 * depth))
        relief = 0.85 + 0.3 * noise(rng, *rows.shape, 18, 3)
        picture = mix(picture, color * relief[..., None], smoothstep(-0.006, 0.006, rows - line))
    return picture


# Grounds: each takes the nearness `[height, width]`, 0 at the horizon and 1 at the lower edge.


def _foreshortened(rng: np.random.Generator, nearness: np.ndarray, cells: float, octaves: int) -> np.ndarray:
    """Noise that is streaky in the distance and coarse in front."""
    far = noise(rng, *nearness.shape, cells * 2, octaves, aspect=3.0)
    near = noise(rng, *nearness.shape, cells, octaves, aspect=1.4)
    return far * (1 - nearness) + near * nearness


def _meadow(rng: np.random.Generator, height: int, width: int, nearness: np.ndarray) -> np.ndarray:
    hue = rng.uniform(0.17, 0.32)
    dark, bright = hsv(hue + 0.03, 0.65, rng.uniform(0.25, 0.4)), hsv(hue - 0.03, 0.5, rng.uniform(0.6, 0.8))
    patches = _foreshortened(rng, nearness, rng.uniform(3, 6), 4)
    blades = noise(rng, height, width, 70, 2, aspect=0.35)
    grass = mix(dark, bright, np.clip(0.55 * patches + 0.45 * blades, 0, 1))
    if rng.random() < 0.5:
        flowers = smoothstep(0.84, 0.92, noise(rng, height, width, 75, 1)) * smoothstep(0.35, 0.6, patches)
        grass = mix(grass, hsv(rng.uniform(0.7, 1.2), rng.uniform(0.1, 0.8), 0.95), 0.85 * flowers)
    return grass


def _sand(rng: np.random.Generator, height: int, width: int, nearness: np.ndarray) -> np.ndarray:
    hue = rng.uniform(0.06, 0.12)
    dunes = _foreshortened(rng, nearness, rng.uniform(2, 4), 3)
    ripples = 0.5 + 0.5 * np.sin(2 * np.pi * (dunes * 5 + (1 - nearness) ** 2 * rng.uniform(8, 16)))
    grains = noise(rng, height, width, 90, 1)
    shade = np.clip(0.5 * dunes + 0.3 * ripples + 0.2 * grains, 0, 1)
    return mix(hsv(hue, 0.5, rng.uniform(0.5, 0.65)), hsv(hue + 0.02, 0.3, 0.95), shade)


def _snow(rng: np.random.Generator, height: int, width: int, nearness: np.ndarray) -> np.ndarray:
    drifts = _foreshortened(rng, nearness, rng.uniform(2, 5), 4)
    sparkle = noise(rng, height, width, 80, 1)
    snow = mix(
        hsv(rng.uniform(0.56, 0.66), 0.25, 0.72), hsv(0.58, 0.03, 0.98), np.clip(drifts * 0.9 + sparkle * 0.2, 0, 1)
    )
    earth = smoothstep(0.62, 0.85, noise(rng, height, width, 6, 5))
    return mix(snow, hsv(0.08, 0.3, 0.35), 0.7 * earth)


def _water(rng: np.random.Generator, height: int, width: int, nearness: np.ndarray) -> np.ndarray:
    """Shallow water that runs out on a beach in front."""
    hue = rng.uniform(0.48, 0.6)
    waves = (
        noise(rng, height, width, 10, 3, aspect=5.0) * (1 - nearness)
        + noise(rng, height, width, 5, 3, aspect=3.0) * nearness
    )
    sea = mix(hsv(hue, 0.7, rng.uniform(0.35, 0.55)), hsv(hue - 0.03, 0.3, 0.88), smoothstep(0.3, 0.75, waves))
    shore = rng.uniform(0.3, 0.8) + 0.25 * (noise(rng, 1, width, rng.uniform(1.5, 3), 3) - 0.5)
    foam = np.exp(-(((nearness - shore) / 0.025) ** 2)) * (0.4 + 0.6 * waves)
    beach = mix(sea, _sand(rng, height, width, nearness), smoothstep(-0.02, 0.02, nearness - shore))
    return mix(beach, np.ones(3, np.float32) * 0.96, 0.8 * foam)


def _earth(rng: np.random.Generator, height: int, width: int, nearness: np.ndarray) -> np.ndarray:
    """Forest floor or gravel: cells of many sizes in muted colors."""
    hue = rng.uniform(0.03, 0.12)
    lumps = _foreshortened(rng, nearness, rng.uniform(8, 14), 3)
    floor = mix(
        hsv(hue, rng.uniform(0.2, 0.5), 0.24),
        hsv(hue + 0.02, rng.uniform(0.1, 0.4), 0.75),
        smoothstep(0.2, 0.85, lumps),
    )
    moss = smoothstep(0.52, 0.7, _foreshortened(rng, nearness, rng.uniform(3, 6), 4))
    return mix(floor, hsv(rng.uniform(0.14, 0.3), 0.5, 0.5) * (0.6 + 0.7 * lumps)[..., None], 0.75 * moss)


def _paving(rng: np.random.Generator, height: int, width: int, nearness: np.ndarray) -> np.ndarray:
    """Flagstones in perspective."""
    tone = hsv(rng.uniform(0.04, 0.62), rng.uniform(0.03, 0.2), rng.uniform(0.5, 0.75))
    distance = 1 / (0.25 + nearness)
    across = (
        (np.linspace(-1, 1, width, dtype=np.float32)[None, :] + rng.uniform(-0.5, 0.5)) * distance * rng.uniform(2, 3)
    )
    row = distance * rng.uniform(4, 6)
    column = across + 0.5 * (np.floor(row) % 2)
    joint = np.maximum(np.abs(row % 1 - 0.5), np.abs(column % 1 - 0.5))
    tint = (np.sin(np.floor(row) * 12.9 + np.floor(column) * 78.2) * 43758.5) % 1
    stone = 0.72 + 0.25 * tint + 0.3 * (noise(rng, height, width, 24, 4) - 0.5)
    return (tone * (stone * (1 - 0.4 * smoothstep(0.43, 0.49, joint)))[..., None]).astype(np.float32)


_GROUNDS = (_meadow, _meadow, _sand, _snow, _water, _earth, _paving)


# Clutter: trees, bushes and stones, drawn with the objects' own tools and light.


def _with_clutter(rng: np.random.Generator, picture: np.ndarray, horizon: float, light: np.ndarray) -> np.ndarray:
    """Stands things on the ground, far ones first."""
    height, width = picture.shape[:2]
    kinds = rng.choice([_stone, _bush, _tree, _post], size=2)
    feet = np.sort(rng.uniform(horizon + 0.03, 1.05, int(rng.integers(1, 7))))
    for foot in feet:
        depth = (foot - horizon) / (1.0 - horizon)
        side = int(max(height, width) * (0.14 + 0.3 * depth) * rng.uniform(0.7, 1.2))
        sprite = Sprite(max(side, 12), light)
        kinds[rng.integers(2)](sprite, rng)
        top = round(foot * height - (0.9 / REACH + 1) / 2 * sprite.size)
        left = round(rng.uniform(-0.1, 1.1) * width - sprite.size / 2)
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + sprite.size, height), min(left + sprite.size, width)
        if y1 <= y0 or x1 <= x0:
            continue
        source = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        under = picture[y0:y1, x0:x1] * (1 - sprite.shadow[source])[..., None]
        picture[y0:y1, x0:x1] = under * (1 - sprite.alpha[source])[..., None] + sprite.color[source]
    return picture


def _cast(sprite: Sprite, half_width: float) -> None:
    squared = (sprite.x / half_width) ** 2 + ((sprite.y - 0.88) / 0.12) ** 2
    sprite.shadow = (0.5 * np.exp(-1.3 * squared)).astype(np.float32)


def _lumpy(rng: np.random.Generator, center: tuple[float, float], radius: float, roughness: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    radii = radius * rng.uniform(1 - roughness, 1 + roughness, 12)
    return smooth_curve(np.asarray(center) + np.stack((np.cos(angle), np.sin(angle)), -1) * radii[:, None])


def _stone(sprite: Sprite, rng: np.random.Generator) -> None:
    tone = hsv(rng.uniform(0.02, 0.65), rng.uniform(0.0, 0.2), rng.uniform(0.4, 0.75))
    grain = 0.7 + 0.6 * noise(rng, sprite.size, sprite.size, 8, 4)
    _cast(sprite, 0.8)
    outline = _lumpy(rng, (0, 0), 0.62, 0.22) * (1, rng.uniform(0.5, 0.8))
    sprite.paint(outline + (0, 0.9 - outline[:, 1].max()), tone * grain[..., None], relief=0.8)


def _leaves(sprite: Sprite, rng: np.random.Generator) -> np.ndarray:
    hue = rng.uniform(0.05, 0.13) if rng.random() < 0.25 else rng.uniform(0.2, 0.4)
    leaf = hsv(hue, rng.uniform(0.4, 0.7), rng.uniform(0.4, 0.65))
    return leaf * (0.55 + 0.9 * noise(rng, sprite.size, sprite.size, 16, 3))[..., None]


def _bush(sprite: Sprite, rng: np.random.Generator) -> None:
    leaves = _leaves(sprite, rng)
    _cast(sprite, 0.9)
    for _ in range(int(rng.integers(3, 6))):
        sprite.paint(
            _lumpy(rng, (rng.uniform(-0.4, 0.4), rng.uniform(0.35, 0.55)), rng.uniform(0.28, 0.38), 0.14), leaves
        )


def _tree(sprite: Sprite, rng: np.random.Generator) -> None:
    bark = hsv(rng.uniform(0.04, 0.09), 0.4, rng.uniform(0.25, 0.45))
    leaves = _leaves(sprite, rng)
    lean = rng.uniform(-0.1, 0.1)
    _cast(sprite, 0.5)
    sprite.paint(limb([(0, 0.88), (lean / 2, 0.3), (lean, -0.3)], np.array([0.1, 0.07, 0.05])), bark)
    if rng.random() < 0.4:
        for tier in range(3):
            top, half = -1.0 + 0.42 * tier, 0.3 + 0.12 * tier
            sprite.paint(
                np.array([(lean, top), (half, top + 0.72), (0, top + 0.64), (-half, top + 0.72)]), leaves, relief=0.5
            )
        return
    for _ in range(int(rng.integers(4, 7))):
        center = (lean + rng.uniform(-0.38, 0.38), rng.uniform(-0.75, -0.1))
        sprite.paint(_lumpy(rng, center, rng.uniform(0.28, 0.42), 0.14), leaves)


def _post(sprite: Sprite, rng: np.random.Generator) -> None:
    wood = hsv(rng.uniform(0.05, 0.1), rng.uniform(0.1, 0.4), rng.uniform(0.35, 0.6))
    grain = wood * (0.7 + 0.6 * noise(rng, sprite.size, sprite.size, 20, 2, aspect=0.2))[..., None]
    _cast(sprite, 0.4)
    top = rng.uniform(-0.3, 0.3)
    sprite.paint(limb([(0, 0.88), (rng.uniform(-0.06, 0.06), top)], np.full(2, 0.09)), grain, relief=0.5)
    if rng.random() < 0.5:
        sprite.paint(ellipse((0, top), (0.2, 0.13)), grain * 1.1)
