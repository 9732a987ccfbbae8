"""The objects of the demo data: three bodies, each shared by two classes that differ in one small, striking part.

A classifier can tell the two classes of a body only by the distinctive part (a head, a sail), which therefore draws
its attention, whereas the mask covers the whole object: the situation that attention accumulation is made for.
"""

from collections.abc import Callable

import numpy as np

from oaa_tf.demo.demo_drawing import Sprite, ellipse, hsv, limb, mix, noise, rotation, smooth_curve, smoothstep

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
    anchor = _BODIES[class_index // 2](sprite, np.random.default_rng([*pose, 0]))
    _PARTS[class_index](sprite, np.random.default_rng([*pose, 1]), anchor)
    return sprite


def _ground_shadow(sprite: Sprite, left: float, right: float, ground: float) -> None:
    x = (sprite.x - (left + right) / 2) / ((right - left) / 2 * 1.12)
    y = (sprite.y - ground) / 0.13
    sprite.shadow = (0.62 * np.exp(-1.3 * (x * x + y * y) ** 1.3)).astype(np.float32)


def _eye(sprite: Sprite, center: np.ndarray, radius: float) -> None:
    sprite.paint(ellipse(center, (radius, radius), steps=20), _EYE_WHITE, relief=0.2, distinctive=True)
    sprite.paint(ellipse(center + (0.3 * radius, 0), (0.6 * radius,) * 2, steps=16), _INK, relief=0.2, distinctive=True)


# Bodies: each returns the anchor (x, y, angle) at which the distinctive part is mounted.


def _draw_quadruped(sprite: Sprite, rng: np.random.Generator) -> np.ndarray:
    """A hoofed animal with a dappled, earth-colored coat."""
    hue = rng.uniform(0.04, 0.12)
    light_coat = hsv(hue, rng.uniform(0.2, 0.55), rng.uniform(0.72, 0.97))
    dark_coat = hsv(hue - 0.02, rng.uniform(0.55, 0.75), rng.uniform(0.25, 0.42))
    dapples = smoothstep(0.5, 0.58, noise(rng, sprite.size, sprite.size, rng.uniform(11, 16), 2))
    coat = mix(light_coat, dark_coat, dapples * smoothstep(0.42, 0.1, sprite.y))
    coat = coat * (0.86 + 0.28 * noise(rng, sprite.size, sprite.size, 60, 2))[..., None]
    plain = coat * np.array([0.85, 0.8, 0.78], np.float32)
    far = plain * 0.62

    thick = rng.uniform(1.0, 1.15)
    lift = rng.uniform(-0.05, 0.05)
    stride = rng.uniform(-0.22, 0.22, 4)
    ground = 0.86

    def leg(hip: tuple[float, float], swing: float, texture: np.ndarray, sole: float) -> None:
        knee = (hip[0] + 0.45 * swing + 0.03, (hip[1] + sole) / 2)
        foot = (hip[0] + swing, sole)
        sprite.paint(limb([hip, knee, foot], np.array([0.115, 0.07, 0.055]) * thick), texture)
        sprite.paint(ellipse((foot[0] + 0.015, sole), (0.075, 0.045), steps=20), _INK * 2.2)

    leg((-0.45, 0.22), stride[0], far, ground - 0.06)
    leg((0.17, 0.22), stride[1], far, ground - 0.06)
    sway = rng.uniform(-0.12, 0.12)
    tail = [(-0.66, -0.02 + lift), (-0.84, 0.02 + sway), (-0.86 + sway, 0.26), (-0.9 + sway, 0.42)]
    sprite.paint(limb(tail, np.array([0.055, 0.04, 0.035, 0.065])), plain)
    arch = rng.uniform(-0.05, 0.05)
    trunk = [
        (-0.72, 0.04),
        (-0.6, -0.17),
        (-0.2, -0.18 + arch),
        (0.16, -0.2 - lift),
        (0.4, -0.12),
        (0.44, 0.14),
        (0.22, 0.33),
        (-0.16, 0.36 + 0.5 * arch),
        (-0.5, 0.34),
        (-0.7, 0.22),
    ]
    neck_angle = rng.uniform(-1.2, 0.3)
    reach = rng.uniform(0.34, 0.44)
    head = np.array([0.3, -0.02]) + reach * np.array([np.cos(neck_angle), np.sin(neck_angle)])
    sprite.paint(limb([(0.24, 0.02), head], np.array([0.2, 0.12]) * thick), coat)
    sprite.paint(smooth_curve(np.array(trunk) * (1, thick)), coat, relief=0.7)
    leg((-0.55, 0.2), stride[2], plain, ground)
    leg((0.28, 0.18), stride[3], plain, ground)
    _ground_shadow(sprite, -0.72, 0.48, ground)
    return np.array([*head, neck_angle * 0.35 + rng.uniform(-0.15, 0.4)])


def _draw_tortoise(sprite: Sprite, rng: np.random.Generator) -> np.ndarray:
    """A tortoise with a tall shell of hexagonal, ringed plates."""
    hue = rng.uniform(0.16, 0.34)
    plate = hsv(hue, rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.62))
    seam = hsv(hue - 0.09, rng.uniform(0.35, 0.5), rng.uniform(0.75, 0.9))
    skin = hsv(hue - 0.05, rng.uniform(0.25, 0.4), rng.uniform(0.5, 0.68))
    edge_distance = _hexagons(sprite.x / rng.uniform(0.9, 1.1), sprite.y, rng.uniform(0.27, 0.34), rng.random(2))
    rings = 0.88 + 0.16 * np.cos(edge_distance * 3.2 * 2 * np.pi)
    grain = 0.85 + 0.3 * noise(rng, sprite.size, sprite.size, 40, 2)
    shell = mix(seam, plate, smoothstep(0.1, 0.22, edge_distance)) * (rings * grain)[..., None]
    wrinkled = skin * (0.7 + 0.55 * noise(rng, sprite.size, sprite.size, 34, 2))[..., None]
    far = wrinkled * 0.62

    dome = rng.uniform(0.92, 1.1)
    tilt = rng.uniform(-0.04, 0.04)
    step = rng.uniform(-0.13, 0.13, 4)
    ground = 0.62

    def leg(hip: tuple[float, float], swing: float, texture: np.ndarray, sole: float) -> None:
        sprite.paint(limb([hip, (hip[0] + swing, sole - 0.05)], np.array([0.14, 0.11])), texture)

    leg((-0.4, 0.3), step[0], far, ground - 0.07)
    leg((0.22, 0.3), step[1], far, ground - 0.07)
    droop = rng.uniform(-0.05, 0.12)
    sprite.paint(
        limb([(-0.62, 0.3), (-0.84, 0.34 + droop), (-0.95, 0.32 + 1.5 * droop)], np.array([0.09, 0.05, 0.015])),
        wrinkled,
    )
    neck_angle = rng.uniform(-0.85, 0.05)
    reach = rng.uniform(0.3, 0.4)
    head = np.array([0.4, 0.16]) + reach * np.array([np.cos(neck_angle), np.sin(neck_angle)])
    sprite.paint(limb([(0.3, 0.22), head], np.array([0.15, 0.11])), wrinkled)
    leg((-0.5, 0.3), step[2], wrinkled, ground)
    leg((0.34, 0.3), step[3], wrinkled, ground)
    arc = np.linspace(np.pi, 2 * np.pi, 11)
    top = np.stack((-0.08 + 0.62 * np.cos(arc), 0.26 + tilt * np.cos(arc) + 0.68 * dome * np.sin(arc)), -1)
    sprite.paint(smooth_curve(np.concatenate((top, [(0.25, 0.36), (-0.1, 0.4), (-0.45, 0.36)]))), shell, relief=0.75)
    rim = [(-0.72, 0.27 - tilt), (-0.4, 0.36), (-0.08, 0.39), (0.25, 0.36), (0.56, 0.27 + tilt)]
    sprite.paint(limb(rim, np.array([0.05, 0.07, 0.075, 0.07, 0.05])), mix(seam, plate, np.float32(0.35)))
    _ground_shadow(sprite, -0.74, 0.6, ground)
    return np.array([*head, neck_angle * 0.4 + rng.uniform(-0.15, 0.3)])


def _hexagons(x: np.ndarray, y: np.ndarray, pitch: float, offset: np.ndarray) -> np.ndarray:
    """Distance to the nearest edge of a hexagonal tiling: 0 on the edges, 1 in the middle of a tile."""
    u, v = x / pitch + offset[0], y / pitch + offset[1]
    size = np.array([1.0, np.sqrt(3)])
    inside = []
    for shift in (0.0, 0.5):
        du = np.abs((u / size[0] + shift) % 1 - 0.5) * size[0]
        dv = np.abs((v / size[1] + shift) % 1 - 0.5) * size[1]
        inside.append(np.maximum(du, 0.5 * du + np.sqrt(0.75) * dv))
    return (1 - 2 * np.minimum(*inside)).astype(np.float32)


def _draw_cart(sprite: Sprite, rng: np.random.Generator) -> np.ndarray:
    """A riveted steel cart with a windowed cabin and three spoked wheels."""
    hue = rng.uniform(0.52, 0.64)
    steel = hsv(hue, rng.uniform(0.15, 0.4), rng.uniform(0.48, 0.75))
    brass = hsv(0.1, rng.uniform(0.35, 0.5), rng.uniform(0.55, 0.7))
    panels = np.abs((sprite.x * rng.uniform(3.2, 4.2) + rng.random()) % 1 - 0.5)
    hull = steel * (1 - 0.4 * smoothstep(0.45, 0.49, panels))[..., None]
    rivets = ((sprite.x * 15) % 1 - 0.5) ** 2 + ((sprite.y * 15 + 0.3) % 1 - 0.5) ** 2
    hull = mix(hull, steel * 1.35, 0.6 * smoothstep(0.08, 0.03, rivets))
    rust = smoothstep(0.6, 0.8, noise(rng, sprite.size, sprite.size, 7, 3)) * smoothstep(-0.1, 0.4, sprite.y)
    hull = mix(hull, hsv(0.05, 0.6, 0.42), 0.75 * rust)

    long = rng.uniform(0.93, 1.07)
    slope = rng.uniform(-0.04, 0.04)
    cabin = rng.uniform(-0.5, -0.32)
    ground = 0.84
    radius = rng.uniform(0.17, 0.21)
    spin = rng.uniform(0, np.pi)

    _ground_shadow(sprite, -0.74 * long, 0.74 * long, ground)
    mast = np.array([rng.uniform(0.16, 0.3), 0.1])
    lean = rng.uniform(-0.16, 0.16)
    tip = mast + 0.62 * np.array([np.sin(lean), -np.cos(lean)])
    sprite.paint(limb([mast, tip], np.array([0.045, 0.035])), brass * 0.8, gloss=0.3)
    roof = np.array(
        [
            (cabin - 0.25, 0.1),
            (cabin - 0.22, -0.26),
            (cabin - 0.12, -0.32),
            (cabin + 0.14, -0.32),
            (cabin + 0.24, -0.24),
            (cabin + 0.33, 0.1),
        ]
    )
    sprite.paint(roof, hull, relief=0.5)
    glass = hsv(hue - 0.05, 0.25, 0.92)
    for left, right in ((-0.17, 0.01), (0.05, 0.19)):
        pane = np.array([(left, -0.23), (right - 0.01, -0.23), (right + 0.03, -0.04), (left, -0.04)])
        sprite.paint(pane + (cabin, 0), glass * 0.8, relief=0.1, gloss=0.3)
    side = [
        (-0.78, 0.02 + slope),
        (-0.2, 0.03),
        (0.3, 0.03),
        (0.74, 0.0 - slope),
        (0.8, 0.16),
        (0.66, 0.46),
        (0.3, 0.5),
        (-0.3, 0.5),
        (-0.66, 0.48),
        (-0.78, 0.3),
    ]
    sprite.paint(smooth_curve(np.array(side) * (long, 1), steps=5), hull, relief=0.5, gloss=0.12)
    stripe = [(-0.77 * long, 0.11 + slope), (0, 0.12), (0.77 * long, 0.1 - slope)]
    sprite.paint(limb(stripe, np.full(3, 0.03)), brass, relief=0.5)
    for axle in (-0.52, 0.02, 0.52):
        center = np.array([axle * long, ground - radius])
        sprite.paint(ellipse(center, (radius, radius)), _INK * 2, relief=0.3)
        sprite.paint(ellipse(center, (radius * 0.72,) * 2), brass * 0.55, relief=0.2)
        for spoke in range(3):
            arm = 0.72 * radius * (rotation(spin + axle + spoke * np.pi / 3) @ (1, 0))
            sprite.paint(limb([center - arm, center + arm], np.full(2, 0.018)), brass * 1.2, relief=0.4)
        sprite.paint(ellipse(center, (radius * 0.25,) * 2, steps=16), brass * 1.2)
    return np.array([*tip, lean])


# Distinctive parts: drawn over the body at the anchor.


def _placed(anchor: np.ndarray) -> Callable[[np.ndarray | list], np.ndarray]:
    turn = rotation(anchor[2])
    return lambda points: anchor[:2] + np.asarray(points, np.float64) @ turn.T


def _draw_ember_head(sprite: Sprite, rng: np.random.Generator, anchor: np.ndarray) -> None:
    """A flame-red head with two banded horns that sweep backwards."""
    at = _placed(anchor)
    hue = rng.uniform(-0.01, 0.035)
    fur = hsv(hue, 0.88, 0.92) * (0.82 + 0.3 * noise(rng, sprite.size, sprite.size, 40, 2))[..., None]
    bands = hsv(0.135, 0.85, 1.0), hsv(0.03, 0.8, 0.35)
    curl = rng.uniform(0.85, 1.15)
    arc = np.linspace(0, 1, 15)
    for side, shade in ((0.09, 0.8), (-0.02, 1.0)):
        angle = -1.5 - 2.4 * curl * arc
        steps = np.stack((np.cos(angle), np.sin(angle)), -1) * 0.042
        horn = np.array([side, -0.12]) + np.cumsum(steps, 0)
        for start in range(0, 14, 2):
            piece = at(horn[start : start + 3])
            radii = np.array([0.068, 0.064, 0.06]) * (1 - start / 18)
            sprite.paint(limb(piece, radii[: len(piece)]), bands[start // 2 % 2] * shade, distinctive=True)
    ear = at([(-0.1, -0.06), (-0.25, -0.02), (-0.22, 0.06), (-0.08, 0.04)])
    sprite.paint(smooth_curve(ear), fur * 0.75, distinctive=True)
    skull = at(
        [
            (-0.15, -0.03),
            (-0.05, -0.16),
            (0.1, -0.15),
            (0.22, -0.03),
            (0.36, 0.04),
            (0.37, 0.14),
            (0.24, 0.19),
            (0.05, 0.16),
            (-0.11, 0.13),
        ]
    )
    sprite.paint(smooth_curve(skull), fur, relief=0.9, distinctive=True)
    sprite.paint(ellipse(at((0.33, 0.08)), (0.05, 0.06), steps=16), _INK * 1.5, distinctive=True)
    _eye(sprite, at((0.1, -0.04)), 0.045)


def _draw_frost_head(sprite: Sprite, rng: np.random.Generator, anchor: np.ndarray) -> None:
    """A pale muzzle inside a jagged, electric-blue mane."""
    at = _placed(anchor)
    hue = rng.uniform(0.55, 0.61)
    num_tufts = int(rng.integers(11, 15))
    angle = np.arange(2 * num_tufts) * np.pi / num_tufts + rng.uniform(0, 1)
    radius = np.where(np.arange(2 * num_tufts) % 2 == 0, 0.31, 0.22) * rng.uniform(0.92, 1.08, 2 * num_tufts)
    mane = np.stack((np.cos(angle), np.sin(angle)), -1) * radius[:, None]
    center = at((0.02, 0.0))
    around = np.arctan2(sprite.y - center[1], sprite.x - center[0])
    strands = 0.5 + 0.5 * np.cos(around * 2 * num_tufts + 5 * noise(rng, sprite.size, sprite.size, 8, 2))
    fur = mix(hsv(hue, 0.95, 0.8), hsv(hue - 0.06, 0.45, 1.0), strands)
    sprite.paint(at(mane + (0.02, 0)), fur, relief=0.5, distinctive=True)
    for x in (-0.06, 0.12):
        sprite.paint(at([(x - 0.05, -0.11), (x, -0.3), (x + 0.07, -0.12)]), hsv(hue, 0.6, 0.5), distinctive=True)
    face = at(
        [
            (-0.1, -0.02),
            (-0.02, -0.14),
            (0.13, -0.13),
            (0.23, 0.0),
            (0.33, 0.06),
            (0.32, 0.15),
            (0.18, 0.18),
            (0.0, 0.13),
        ]
    )
    sprite.paint(smooth_curve(face), hsv(hue, 0.1, 0.97), relief=0.9, distinctive=True)
    sprite.paint(ellipse(at((0.3, 0.09)), (0.045, 0.05), steps=16), hsv(hue, 0.8, 0.3), distinctive=True)
    _eye(sprite, at((0.1, -0.03)), 0.042)


def _draw_beak_head(sprite: Sprite, rng: np.random.Generator, anchor: np.ndarray) -> None:
    """A yellow head with a huge beak, striped orange and black."""
    at = _placed(anchor)
    hue = rng.uniform(0.125, 0.155)
    gape = rng.uniform(0.0, 0.05)
    sprite.paint(ellipse(at((0, 0)), (0.19, 0.17), anchor[2]), hsv(hue, 0.9, 1.0), distinctive=True)
    along = (sprite.x - anchor[0]) * np.cos(anchor[2]) + (sprite.y - anchor[1]) * np.sin(anchor[2])
    stripes = smoothstep(0.46, 0.54, np.abs((along * rng.uniform(7.5, 8.5) + 0.2) % 1 - 0.5) * 2)
    horn = mix(hsv(hue - 0.075, 0.95, 1.0), _INK * 1.3, stripes)
    lower = at([(0.1, 0.04 + gape), (0.3, 0.06 + gape), (0.42, 0.1 + gape), (0.26, 0.15 + gape), (0.09, 0.13 + gape)])
    sprite.paint(smooth_curve(lower), horn * 0.75, relief=0.6, distinctive=True)
    upper = at([(0.09, -0.12), (0.26, -0.15), (0.42, -0.07), (0.5, 0.1), (0.36, 0.06), (0.1, 0.07)])
    sprite.paint(smooth_curve(upper), horn, relief=0.7, gloss=0.25, distinctive=True)
    _eye(sprite, at((0.03, -0.06)), 0.05)


def _draw_frill_head(sprite: Sprite, rng: np.random.Generator, anchor: np.ndarray) -> None:
    """A violet head in front of an upright fan with pink and white rays."""
    at = _placed(anchor)
    hue = rng.uniform(0.8, 0.87)
    spread = rng.uniform(0.95, 1.15)
    num_rays = int(rng.integers(7, 9))
    angle = np.linspace(-2.75, -0.55, 2 * num_rays + 1) * spread + 0.5 * (spread - 1)
    radius = np.where(np.arange(len(angle)) % 2 == 1, 0.36, 0.29)
    fan = np.concatenate(([(0.08, 0.1)], np.stack((np.cos(angle), np.sin(angle)), -1) * radius[:, None]))
    around = np.arctan2(sprite.y - anchor[1], sprite.x - anchor[0]) - anchor[2]
    rays = smoothstep(-0.25, 0.25, np.cos((around - angle[0]) * 2 * np.pi / (angle[2] - angle[0])))
    sprite.paint(at(fan), mix(hsv(hue + 0.06, 0.85, 0.98), hsv(hue, 0.12, 1.0), rays), relief=0.25, distinctive=True)
    scales = 0.8 + 0.35 * noise(rng, sprite.size, sprite.size, 36, 2)
    face = at(
        [
            (-0.13, 0.0),
            (-0.05, -0.13),
            (0.1, -0.13),
            (0.22, -0.02),
            (0.33, 0.03),
            (0.32, 0.1),
            (0.16, 0.14),
            (-0.06, 0.13),
        ]
    )
    sprite.paint(smooth_curve(face), hsv(hue - 0.06, 0.75, 0.72) * scales[..., None], relief=0.9, distinctive=True)
    sprite.paint(at([(0.2, -0.02), (0.27, -0.16), (0.29, 0.01)]), hsv(hue, 0.15, 0.98), distinctive=True)
    _eye(sprite, at((0.07, -0.04)), 0.045)


def _draw_sail(sprite: Sprite, rng: np.random.Generator, anchor: np.ndarray) -> None:
    """A billowing sail with broad red and white stripes."""
    at = _placed(anchor)
    belly = rng.uniform(0.06, 0.12)
    sheet = rng.uniform(-0.05, 0.05)
    num_stripes = rng.uniform(6.5, 8.0)
    down = (sprite.y - anchor[1]) * np.cos(anchor[2]) - (sprite.x - anchor[0]) * np.sin(anchor[2])
    out = (sprite.x - anchor[0]) * np.cos(anchor[2]) + (sprite.y - anchor[1]) * np.sin(anchor[2])
    phase = (down - 0.25 * out - 0.5 * out**2) * num_stripes
    stripes = smoothstep(0.44, 0.56, np.abs(phase % 1 - 0.5) * 2)
    cloth = mix(hsv(rng.uniform(-0.02, 0.01), 0.92, 0.9), np.array([0.98, 0.97, 0.94], np.float32), stripes)
    cloth = cloth * (0.85 + 0.25 * noise(rng, sprite.size, sprite.size, 10, 2))[..., None]
    shape = at(
        [
            (0.0, -0.16),
            (0.16, -0.02 - belly / 2),
            (0.34 + belly / 2, 0.18),
            (0.46, 0.44 + sheet),
            (0.22, 0.4),
            (0.0, 0.42),
            (-0.02, 0.15),
        ]
    )
    sprite.paint(smooth_curve(shape, steps=6), cloth, relief=0.6, distinctive=True)
    jib = at([(-0.05, -0.1), (-0.12, 0.12), (-0.26, 0.36 - sheet), (-0.05, 0.36)])
    sprite.paint(smooth_curve(jib, steps=6), cloth, relief=0.6, distinctive=True)


def _draw_pinwheel(sprite: Sprite, rng: np.random.Generator, anchor: np.ndarray) -> None:
    """A pinwheel of curved blades, lime and white in turn."""
    hub = anchor[:2]
    turn = rng.uniform(0, np.pi)
    hue = rng.uniform(0.24, 0.29)
    span = rng.uniform(0.3, 0.34)
    for blade in range(8):
        angle = turn + blade * np.pi / 4
        outline = np.array(
            [(0.0, 0.0), (0.35, -0.1), (0.8, -0.12), (1.0, 0.12), (0.92, 0.42), (0.6, 0.42), (0.3, 0.26)]
        )
        color = hsv(hue, 0.9, 0.92) if blade % 2 else hsv(hue, 0.06, 0.98)
        sprite.paint(hub + smooth_curve(outline * span) @ rotation(angle).T, color, relief=0.7, distinctive=True)
    sprite.paint(ellipse(hub, (0.065, 0.065), steps=20), hsv(hue + 0.06, 0.9, 0.35), gloss=0.4, distinctive=True)


_BODIES = (_draw_quadruped, _draw_tortoise, _draw_cart)
_PARTS = (_draw_ember_head, _draw_frost_head, _draw_beak_head, _draw_frill_head, _draw_sail, _draw_pinwheel)
