"""The objects of the demo data: three bodies, each shared by two classes that differ in one small, striking part.

A classifier can tell the two classes of a body only by the distinctive part (a head, a sail), which therefore draws
its attention, whereas the mask covers the whole object: the situation that attention accumulation is made for.
"""

import numpy as np
from numpy.random import Generator

from oaa_tf.demo.drawing import Sprite, draws, ellipse, hsv, mix, outline, polar, rotation, smooth_curve, smoothstep

CLASSES = ("emberhorn", "frostmane", "beakback", "frillback", "sailcart", "spincart")
"""Names by class index; classes 2k and 2k + 1 share body k."""

_EYE_WHITE = np.array([0.97, 0.97, 0.93], np.float32)
_INK = np.array([0.08, 0.07, 0.09], np.float32)


def draw_object(class_index: int, pose: tuple[int, ...], size: int, light: np.ndarray) -> Sprite:
    """Draws one object, facing right.

    Two classes of one body drawn with the same `pose` are the same, pixel for pixel, outside their distinctive parts.

    Args:
        class_index: Index into `CLASSES`.
        pose: Seed of articulation, texture and color.
        size: Side of the sprite in pixels.
        light: Direction towards the light `[3]` (x right, y down, z towards the viewer).
    """
    sprite = Sprite(size, light)
    sprite.anchor = _BODIES[class_index // 2](sprite, np.random.default_rng([*pose, 0]))
    sprite.distinctive[:] = 0
    _PARTS[class_index](sprite, np.random.default_rng([*pose, 1]))
    return sprite


# Bodies: each returns the anchor (x, y, angle) at which the distinctive part is mounted.


def _draw_quadruped(sprite: Sprite, rng: Generator) -> np.ndarray:
    """A hoofed animal with a dappled, earth-colored coat."""
    hue = rng.uniform(0.04, 0.12)
    light_coat = hsv(hue, (0.2, 0.55), (0.72, 0.97), rng)
    dark_coat = hsv(hue - 0.02, (0.55, 0.75), (0.25, 0.42), rng)
    dapples = smoothstep(0.5, 0.58, sprite.noise(rng, rng.uniform(11, 16)))
    coat = mix(light_coat, dark_coat, dapples * smoothstep(0.42, 0.1, sprite.y))
    coat = coat * (0.86 + 0.28 * sprite.noise(rng, 60))[..., None]
    plain = coat * np.array([0.85, 0.8, 0.78], np.float32)
    thick, lift, *stride = draws(rng, (1.0, 1.15), (-0.05, 0.05), *[(-0.22, 0.22)] * 4)

    def leg(x: float, y: float, swing: float, texture: np.ndarray, sole: float) -> None:
        joints = [(x, y), (x + 0.45 * swing + 0.03, (y + sole) / 2), (x + swing, sole)]
        sprite.limb(joints, np.array([0.115, 0.07, 0.055]) * thick, texture)
        sprite.ellipse((x + swing + 0.015, sole), (0.075, 0.045), _INK * 2.2, steps=20)

    leg(-0.45, 0.22, stride[0], plain * 0.62, 0.8)
    leg(0.17, 0.22, stride[1], plain * 0.62, 0.8)
    sway, arch, turn, reach = draws(rng, (-0.12, 0.12), (-0.05, 0.05), (-1.2, 0.3), (0.34, 0.44))
    tail = [(-0.66, -0.02 + lift), (-0.84, 0.02 + sway), (-0.86 + sway, 0.26), (-0.9 + sway, 0.42)]
    sprite.limb(tail, (0.055, 0.04, 0.035, 0.065), plain)
    head = (0.3, -0.02) + polar(turn, reach)
    sprite.limb([(0.24, 0.02), head], np.array([0.2, 0.12]) * thick, coat)
    trunk = outline("-72,4 -60,-17 -20,-18 16,-20 40,-12 44,14 22,33 -16,36 -50,34 -70,22")
    trunk[[2, 3, 7], 1] += (arch, -lift, 0.5 * arch)
    sprite.blob(trunk * (1, thick), coat, relief=0.7)
    leg(-0.55, 0.2, stride[2], plain, 0.86)
    leg(0.28, 0.18, stride[3], plain, 0.86)
    sprite.cast_shadow((-0.12, 0.86), (0.672, 0.13), 0.62, 1.3)
    return np.array([*head, turn * 0.35 + rng.uniform(-0.15, 0.4)])


def _draw_tortoise(sprite: Sprite, rng: Generator) -> np.ndarray:
    """A tortoise with a tall shell of hexagonal, ringed plates."""
    hue = rng.uniform(0.16, 0.34)
    plate = hsv(hue, (0.35, 0.65), (0.4, 0.62), rng)
    seam = hsv(hue - 0.09, (0.35, 0.5), (0.75, 0.9), rng)
    skin = hsv(hue - 0.05, (0.25, 0.4), (0.5, 0.68), rng)
    edge_distance = _hexagons(sprite.x / rng.uniform(0.9, 1.1), sprite.y, rng.uniform(0.27, 0.34), rng.random(2))
    rings = 0.88 + 0.16 * np.cos(edge_distance * 3.2 * 2 * np.pi)
    shell = mix(seam, plate, smoothstep(0.1, 0.22, edge_distance))
    shell = shell * (rings * (0.85 + 0.3 * sprite.noise(rng, 40)))[..., None]
    skin = skin * (0.7 + 0.55 * sprite.noise(rng, 34))[..., None]
    dome, tilt, *steps = draws(rng, (0.92, 1.1), (-0.04, 0.04), *[(-0.13, 0.13)] * 4)
    droop, turn, reach = draws(rng, (-0.05, 0.12), (-0.85, 0.05), (0.3, 0.4))

    for x, step in zip((-0.4, 0.22), steps[:2], strict=True):
        sprite.limb([(x, 0.3), (x + step, 0.5)], (0.14, 0.11), skin * 0.62)
    sprite.limb([(-0.62, 0.3), (-0.84, 0.34 + droop), (-0.95, 0.32 + 1.5 * droop)], (0.09, 0.05, 0.015), skin)
    head = (0.4, 0.16) + polar(turn, reach)
    sprite.limb([(0.3, 0.22), head], (0.15, 0.11), skin)
    for x, step in zip((-0.5, 0.34), steps[2:], strict=True):
        sprite.limb([(x, 0.3), (x + step, 0.57)], (0.14, 0.11), skin)
    arc = np.linspace(np.pi, 2 * np.pi, 11)
    top = np.stack((-0.08 + 0.62 * np.cos(arc), 0.26 + tilt * np.cos(arc) + 0.68 * dome * np.sin(arc)), -1)
    sprite.blob(np.concatenate((top, [(0.25, 0.36), (-0.1, 0.4), (-0.45, 0.36)])), shell, relief=0.75)
    rim = [(-0.72, 0.27 - tilt), (-0.4, 0.36), (-0.08, 0.39), (0.25, 0.36), (0.56, 0.27 + tilt)]
    sprite.limb(rim, (0.05, 0.07, 0.075, 0.07, 0.05), mix(seam, plate, 0.35))
    sprite.cast_shadow((-0.07, 0.62), (0.7504, 0.13), 0.62, 1.3)
    return np.array([*head, turn * 0.4 + rng.uniform(-0.15, 0.3)])


def _hexagons(x: np.ndarray, y: np.ndarray, pitch: float, offset: np.ndarray) -> np.ndarray:
    """Distance to the nearest edge of a hexagonal tiling: 0 on the edges, 1 in the middle of a tile."""
    inside = []
    for shift in (0.0, 0.5):
        du = np.abs((x / pitch + offset[0] + shift) % 1 - 0.5)
        dv = np.abs(((y / pitch + offset[1]) / np.sqrt(3) + shift) % 1 - 0.5) * np.sqrt(3)
        inside.append(np.maximum(du, 0.5 * du + np.sqrt(0.75) * dv))
    return (1 - 2 * np.minimum(*inside)).astype(np.float32)


def _draw_cart(sprite: Sprite, rng: Generator) -> np.ndarray:
    """A riveted steel cart with a windowed cabin and three spoked wheels."""
    hue = rng.uniform(0.52, 0.64)
    steel = hsv(hue, (0.15, 0.4), (0.48, 0.75), rng)
    brass = hsv(0.1, (0.35, 0.5), (0.55, 0.7), rng)
    panels = np.abs((sprite.x * rng.uniform(3.2, 4.2) + rng.random()) % 1 - 0.5)
    hull = steel * (1 - 0.4 * smoothstep(0.45, 0.49, panels))[..., None]
    rivets = ((sprite.x * 15) % 1 - 0.5) ** 2 + ((sprite.y * 15 + 0.3) % 1 - 0.5) ** 2
    hull = mix(hull, steel * 1.35, 0.6 * smoothstep(0.08, 0.03, rivets))
    rust = smoothstep(0.6, 0.8, sprite.noise(rng, 7, 3)) * smoothstep(-0.1, 0.4, sprite.y)
    hull = mix(hull, hsv(0.05, 0.6, 0.42), 0.75 * rust)
    long, slope, cabin, radius = draws(rng, (0.93, 1.07), (-0.04, 0.04), (-0.5, -0.32), (0.17, 0.21))
    spin, foot, lean = draws(rng, (0, np.pi), (0.16, 0.3), (-0.16, 0.16))

    sprite.cast_shadow((0, 0.84), (0.74 * long * 1.12, 0.13), 0.62, 1.3)
    tip = (foot, 0.1) + 0.62 * np.array([np.sin(lean), -np.cos(lean)])
    sprite.limb([(foot, 0.1), tip], (0.045, 0.035), brass * 0.8, gloss=0.3)
    sprite.paint([outline("-25,10 -22,-26 -12,-32 14,-32 24,-24 33,10") + (cabin, 0)], hull, relief=0.5)
    for pane in ("-17,-23 0,-23 4,-4 -17,-4", "5,-23 18,-23 22,-4 5,-4"):
        sprite.paint([outline(pane) + (cabin, 0)], hsv(hue - 0.05, 0.25, 0.92) * 0.8, relief=0.1, gloss=0.3)
    side = outline("-78,2 -20,3 30,3 74,0 80,16 66,46 30,50 -30,50 -66,48 -78,30")
    side[[0, 3], 1] += (slope, -slope)
    sprite.blob(side * (long, 1), hull, steps=5, relief=0.5, gloss=0.12)
    stripe = [(-0.77 * long, 0.11 + slope), (0, 0.12), (0.77 * long, 0.1 - slope)]
    sprite.limb(stripe, 0.03, brass, relief=0.5)
    for axle in (-0.52, 0.02, 0.52):
        center = np.array([axle * long, 0.84 - radius])
        sprite.ellipse(center, radius, _INK * 2, relief=0.3)
        sprite.ellipse(center, radius * 0.72, brass * 0.55, relief=0.2)
        for spoke in range(3):
            arm = polar(spin + axle + spoke * np.pi / 3, 0.72 * radius)
            sprite.limb([center - arm, center + arm], 0.018, brass * 1.2, relief=0.4)
        sprite.ellipse(center, radius * 0.25, brass * 1.2, steps=16)
    return np.array([*tip, lean])


# Distinctive parts: drawn over the body at the sprite's anchor.


def _eye(sprite: Sprite, center: tuple[float, float], radius: float) -> None:
    sprite.ellipse(center, radius, _EYE_WHITE, steps=20, relief=0.2)
    pupil = ellipse(sprite.at(center) + (0.3 * radius, 0), 0.6 * radius, steps=16)
    sprite.paint([pupil], _INK, relief=0.2)


def _draw_ember_head(sprite: Sprite, rng: Generator) -> None:
    """A flame-red head with two banded horns that sweep backwards."""
    hue = rng.uniform(-0.01, 0.035)
    fur = hsv(hue, 0.88, 0.92) * (0.82 + 0.3 * sprite.noise(rng, 40))[..., None]
    bands = hsv(0.135, 0.85, 1.0), hsv(0.03, 0.8, 0.35)
    angles = -1.5 - 2.4 * rng.uniform(0.85, 1.15) * np.linspace(0, 1, 15)
    for side, shade in ((0.09, 0.8), (-0.02, 1.0)):
        horn = (side, -0.12) + np.cumsum(polar(angles, 0.042), 0)
        for band in range(7):
            radii = np.array([0.068, 0.064, 0.06]) * (1 - band / 9)
            sprite.limb(horn[2 * band : 2 * band + 3], radii, bands[band % 2] * shade)
    sprite.blob(outline("-10,-6 -25,-2 -22,6 -8,4"), fur * 0.75)
    sprite.blob(outline("-15,-3 -5,-16 10,-15 22,-3 36,4 37,14 24,19 5,16 -11,13"), fur, relief=0.9)
    sprite.ellipse((0.33, 0.08), (0.05, 0.06), _INK * 1.5, steps=16)
    _eye(sprite, (0.1, -0.04), 0.045)


def _draw_frost_head(sprite: Sprite, rng: Generator) -> None:
    """A pale muzzle inside a jagged, electric-blue mane."""
    hue = rng.uniform(0.55, 0.61)
    num_tufts = int(rng.integers(11, 15))
    angles = np.arange(2 * num_tufts) * np.pi / num_tufts + rng.uniform(0, 1)
    mane = polar(angles, np.tile([0.31, 0.22], num_tufts) * rng.uniform(0.92, 1.08, 2 * num_tufts))
    center = sprite.at((0.02, 0.0))
    around = np.arctan2(sprite.y - center[1], sprite.x - center[0])
    strands = 0.5 + 0.5 * np.cos(around * 2 * num_tufts + 5 * sprite.noise(rng, 8))
    fur = mix(hsv(hue, 0.95, 0.8), hsv(hue - 0.06, 0.45, 1.0), strands)
    sprite.paint([sprite.at(mane + (0.02, 0))], fur, relief=0.5)
    for ear in ("-11,-11 -6,-30 1,-12", "7,-11 12,-30 19,-12"):
        sprite.paint([sprite.at(outline(ear))], hsv(hue, 0.6, 0.5))
    face = outline("-10,-2 -2,-14 13,-13 23,0 33,6 32,15 18,18 0,13")
    sprite.blob(face, hsv(hue, 0.1, 0.97), relief=0.9)
    sprite.ellipse((0.3, 0.09), (0.045, 0.05), hsv(hue, 0.8, 0.3), steps=16)
    _eye(sprite, (0.1, -0.03), 0.042)


def _draw_beak_head(sprite: Sprite, rng: Generator) -> None:
    """A yellow head with a huge beak, striped orange and black."""
    hue, gape = draws(rng, (0.125, 0.155), (0.0, 0.05))
    x, y, angle = sprite.anchor
    sprite.ellipse((0, 0), (0.19, 0.17), hsv(hue, 0.9, 1.0), angle)
    along = (sprite.x - x) * np.cos(angle) + (sprite.y - y) * np.sin(angle)
    stripes = smoothstep(0.46, 0.54, np.abs((along * rng.uniform(7.5, 8.5) + 0.2) % 1 - 0.5) * 2)
    horn = mix(hsv(hue - 0.075, 0.95, 1.0), _INK * 1.3, stripes)
    sprite.blob(outline("10,4 30,6 42,10 26,15 9,13") + (0, gape), horn * 0.75, relief=0.6)
    sprite.blob(outline("9,-12 26,-15 42,-7 50,10 36,6 10,7"), horn, relief=0.7, gloss=0.25)
    _eye(sprite, (0.03, -0.06), 0.05)


def _draw_frill_head(sprite: Sprite, rng: Generator) -> None:
    """A violet head in front of an upright fan with pink and white rays."""
    hue, spread = draws(rng, (0.8, 0.87), (0.95, 1.15))
    num_rays = int(rng.integers(7, 9))
    angles = np.linspace(-2.75, -0.55, 2 * num_rays + 1) * spread + 0.5 * (spread - 1)
    fan = np.concatenate(([(0.08, 0.1)], polar(angles, np.resize([0.29, 0.36], len(angles)))))
    x, y, angle = sprite.anchor
    around = np.arctan2(sprite.y - y, sprite.x - x) - angle
    rays = smoothstep(-0.25, 0.25, np.cos((around - angles[0]) * 2 * np.pi / (angles[2] - angles[0])))
    sprite.paint([sprite.at(fan)], mix(hsv(hue + 0.06, 0.85, 0.98), hsv(hue, 0.12, 1.0), rays), relief=0.25)
    skin = hsv(hue - 0.06, 0.75, 0.72) * (0.8 + 0.35 * sprite.noise(rng, 36))[..., None]
    sprite.blob(outline("-13,0 -5,-13 10,-13 22,-2 33,3 32,10 16,14 -6,13"), skin, relief=0.9)
    sprite.paint([sprite.at(outline("20,-2 27,-16 29,1"))], hsv(hue, 0.15, 0.98))
    _eye(sprite, (0.07, -0.04), 0.045)


def _draw_sail(sprite: Sprite, rng: Generator) -> None:
    """A billowing sail with broad red and white stripes."""
    belly, sheet, num_stripes = draws(rng, (0.06, 0.12), (-0.05, 0.05), (6.5, 8.0))
    x, y, angle = sprite.anchor
    down = (sprite.y - y) * np.cos(angle) - (sprite.x - x) * np.sin(angle)
    out = (sprite.x - x) * np.cos(angle) + (sprite.y - y) * np.sin(angle)
    phase = (down - 0.25 * out - 0.5 * out**2) * num_stripes
    stripes = smoothstep(0.44, 0.56, np.abs(phase % 1 - 0.5) * 2)
    cloth = mix(hsv((-0.02, 0.01), 0.92, 0.9, rng), np.array([0.98, 0.97, 0.94], np.float32), stripes)
    cloth = cloth * (0.85 + 0.25 * sprite.noise(rng, 10))[..., None]
    sail = outline("0,-16 16,-2 34,18 46,44 22,40 0,42 -2,15")
    sail[[1, 2, 3], [1, 0, 1]] += (-belly / 2, belly / 2, sheet)
    sprite.blob(sail, cloth, steps=6, relief=0.6)
    sprite.blob([(-0.05, -0.1), (-0.12, 0.12), (-0.26, 0.36 - sheet), (-0.05, 0.36)], cloth, steps=6, relief=0.6)


def _draw_pinwheel(sprite: Sprite, rng: Generator) -> None:
    """A pinwheel of curved blades, lime and white in turn."""
    turn, hue, span = draws(rng, (0, np.pi), (0.24, 0.29), (0.3, 0.34))
    blade = smooth_curve(outline("0,0 35,-10 80,-12 100,12 92,42 60,42 30,26") * span)
    for number in range(8):
        color = hsv(hue, 0.9, 0.92) if number % 2 else hsv(hue, 0.06, 0.98)
        sprite.paint([sprite.anchor[:2] + blade @ rotation(turn + number * np.pi / 4).T], color, relief=0.7)
    sprite.ellipse((0, 0), 0.065, hsv(hue + 0.06, 0.9, 0.35), steps=20, gloss=0.4)


_BODIES = (_draw_quadruped, _draw_tortoise, _draw_cart)
_PARTS = (_draw_ember_head, _draw_frost_head, _draw_beak_head, _draw_frill_head, _draw_sail, _draw_pinwheel)
