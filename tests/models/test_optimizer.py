"""The optimizers against their update rules in numpy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.models.backbones import freeze_blocks
from oaa_tf.models.class_aware import class_aware_network
from oaa_tf.models.optimizer import CaffeSGD, LayerwiseAdamW, paper_optimizer
from oaa_tf.models.vgg import vgg16_backbone

SHAPES = {"kernel": (3, 2), "bias": (2,), "head": (2, 4)}


def make_variables(seed: int = 0) -> list[keras.Variable]:
    generator = np.random.default_rng(seed)
    return [
        keras.Variable(generator.normal(size=shape).astype(np.float32), name=name) for name, shape in SHAPES.items()
    ]


def random_gradients(num_steps: int, seed: int = 1) -> list[list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    return [[generator.normal(size=shape).astype(np.float32) for shape in SHAPES.values()] for _ in range(num_steps)]


def reference(variables, gradients, rates, *, momentum, l2, multipliers, without_l2, clip_norm) -> list[np.ndarray]:
    """Caffe: V = momentum V + rate (gradient + decay W), W = W - V; gradients are clipped before the decay is added."""
    values = {name: np.float64(variable.numpy()) for name, variable in zip(SHAPES, variables, strict=True)}
    velocity = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for step_gradients, rate in zip(gradients, rates, strict=True):
        norm = np.sqrt(sum(np.sum(np.float64(gradient) ** 2) for gradient in step_gradients))
        factor = min(1.0, clip_norm / norm) if clip_norm else 1.0
        for name, gradient in zip(SHAPES, step_gradients, strict=True):
            decay = 0 if name in without_l2 else l2
            change = factor * np.float64(gradient) + decay * values[name]
            velocity[name] = momentum * velocity[name] + rate * multipliers.get(name, 1.0) * change
            values[name] = values[name] - velocity[name]
    return list(values.values())


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize(
    ("multipliers", "l2", "clip_norm"),
    [
        ({}, 0.0, 0.0),
        ({"bias": 2.0, "head": 10.0}, 0.0, 0.0),
        ({"bias": 2.0, "head": 10.0}, 0.05, 0.0),
        ({"head": 0.0}, 0.05, 1.5),
    ],
)
def test_equals_caffe(multipliers: dict, l2: float, clip_norm: float, in_function: bool) -> None:
    variables, gradients = make_variables(), random_gradients(7)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.01, 0.001])
    options = {"momentum": 0.9, "l2": l2, "multipliers": multipliers, "without_l2": ("bias",)}
    expected = reference(variables, gradients, [0.01] * 4 + [0.001] * 3, clip_norm=clip_norm, **options)
    optimizer = CaffeSGD(schedule, clip_norm=clip_norm, **options)
    optimizer.build(variables)

    def apply(step_gradients) -> None:
        optimizer.apply_gradients(zip(step_gradients, variables, strict=True))

    apply = tf.function(apply) if in_function else apply
    for step_gradients in gradients:
        apply([tf.constant(gradient) for gradient in step_gradients])
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-5, atol=1e-6)
    assert int(optimizer.iterations.numpy()) == 7


def test_weight_decay_is_an_l2_penalty() -> None:
    """The same as gradients of loss + l2 / 2 * w ** 2 without any decay in the optimizer."""
    decayed, penalised = make_variables(), make_variables()
    optimizers = CaffeSGD(0.1, l2=0.3), CaffeSGD(0.1)
    for step_gradients in random_gradients(5):
        optimizers[0].apply_gradients(zip(map(tf.constant, step_gradients), decayed, strict=True))
        with_penalty = [g + 0.3 * w.numpy() for g, w in zip(step_gradients, penalised, strict=True)]
        optimizers[1].apply_gradients(zip(map(tf.constant, with_penalty), penalised, strict=True))
    for one, other in zip(decayed, penalised, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_configuration_round_trip_trains_alike() -> None:
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 10, end_learning_rate=0.0, power=0.9)
    first = CaffeSGD(schedule, momentum=0.8, l2=0.1, multipliers={"head": 3.0}, without_l2=("bias",), clip_norm=2.0)
    second = keras.optimizers.deserialize(keras.optimizers.serialize(first))
    assert isinstance(second, CaffeSGD) and second.get_config() == first.get_config()
    assert isinstance(second.without_l2, tuple)
    pairs = (first, make_variables()), (second, make_variables())
    for step_gradients in random_gradients(4):
        for optimizer, variables in pairs:
            optimizer.apply_gradients(zip(map(tf.constant, step_gradients), variables, strict=True))
    for one, other in zip(pairs[0][1], pairs[1][1], strict=True):
        np.testing.assert_array_equal(one, other)


def adamw_reference(variables, gradients, rates, *, decay, multipliers, without_decay, clip_norm) -> list[np.ndarray]:
    """Loshchilov, Hutter, Algorithm 2: the decay is no part of the gradient."""
    values = {name: np.float64(variable.numpy()) for name, variable in zip(SHAPES, variables, strict=True)}
    means = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    squares = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for step, (step_gradients, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        norm = np.sqrt(sum(np.sum(np.float64(gradient) ** 2) for gradient in step_gradients))
        factor = min(1.0, clip_norm / norm) if clip_norm else 1.0
        for name, gradient in zip(SHAPES, step_gradients, strict=True):
            gradient = factor * np.float64(gradient)
            means[name] = 0.9 * means[name] + 0.1 * gradient
            squares[name] = 0.999 * squares[name] + 0.001 * gradient**2
            change = means[name] / (1 - 0.9**step) / (np.sqrt(squares[name] / (1 - 0.999**step)) + 1e-7)
            if name not in without_decay:
                change = change + decay * values[name]
            values[name] = values[name] - rate * multipliers.get(name, 1.0) * change
    return list(values.values())


@pytest.mark.parametrize(
    ("multipliers", "decay", "clip_norm"),
    [({}, 0.0, 0.0), ({"bias": 2.0, "head": 10.0}, 0.05, 0.0), ({"head": 0.0}, 0.05, 1.5)],
)
def test_equals_adamw(multipliers: dict, decay: float, clip_norm: float) -> None:
    variables, gradients = make_variables(), random_gradients(7)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.01, 0.001])
    options = {"decay": decay, "multipliers": multipliers, "without_decay": ("bias",), "clip_norm": clip_norm}
    expected = adamw_reference(variables, gradients, [0.01] * 4 + [0.001] * 3, **options)
    optimizer = LayerwiseAdamW(schedule, **options)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, LayerwiseAdamW) and again.get_config() == optimizer.get_config()
    for step_gradients in gradients:
        again.apply_gradients(zip(map(tf.constant, step_gradients), variables, strict=True))
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)


def test_adamw_learns_with_the_rates_of_layers() -> None:
    backbone = vgg16_backbone(2)
    network = class_aware_network(backbone, num_classes=3)
    optimizer = paper_optimizer(network, backbone, 0.01, kind="adamw", new_layer_multiplier=10.0, weight_decay=0.5)
    assert isinstance(optimizer, LayerwiseAdamW) and optimizer.decay == 0.5
    for weight in network.weights:
        assert optimizer.multipliers[weight.path] == (1 if weight.path.startswith("block") else 10)
        assert (weight.path in optimizer.without_decay) == weight.path.endswith("bias")


def test_the_papers_multipliers_and_decay() -> None:
    backbone = vgg16_backbone(2)
    network = class_aware_network(backbone, num_classes=3)
    optimizer = paper_optimizer(
        network, backbone, 0.01, momentum=0.9, weight_decay=0.5, new_layer_multiplier=10.0, clip_norm=0.0
    )
    before = {weight.path: weight.numpy() for weight in network.weights}
    gradients = {weight.path: np.full(weight.shape, 0.25, np.float32) for weight in network.weights}
    optimizer.apply_gradients([(tf.constant(gradients[weight.path]), weight) for weight in network.trainable_variables])
    assert len(before) == 2 * (13 + 4)
    for weight in network.weights:
        is_new = not weight.path.startswith("block")
        rate = 0.01 * (10 if is_new else 1) * (2 if weight.path.endswith("bias") else 1)
        decay = 0 if weight.path.endswith("bias") else 0.5
        expected = before[weight.path] - rate * (0.25 + decay * before[weight.path])
        np.testing.assert_allclose(weight, expected, rtol=1e-5, atol=1e-7, err_msg=weight.path)
    assert optimizer.clip_norm == 0


def test_frozen_blocks_need_no_state() -> None:
    backbone = vgg16_backbone(2)
    network = class_aware_network(backbone, num_classes=3)
    freeze_blocks(backbone, 2)
    optimizer = paper_optimizer(
        network, backbone, 0.01, momentum=0.9, weight_decay=0.5, new_layer_multiplier=10.0, clip_norm=3.0
    )
    optimizer.build(network.trainable_variables)
    # Momentum of the rest, the step counter and the learning rate.
    assert len(optimizer.variables) == 2 * (13 - 4 + 4) + 2
    assert optimizer.clip_norm == 3.0


def test_kernels_of_all_layers_have_decay_and_nothing_else_has() -> None:
    backbone = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.DepthwiseConv2D(3), keras.layers.BatchNormalization()]
    )
    network = keras.Sequential([keras.Input((8, 8, 3)), backbone, keras.layers.Flatten(), keras.layers.Dense(2)])
    optimizer = paper_optimizer(network, backbone, 0.01, weight_decay=0.5)
    before = {weight.path: weight.numpy() for weight in network.trainable_variables}
    gradients = [tf.fill(weight.shape, 0.25) for weight in network.trainable_variables]
    optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
    rates = {"kernel": 1, "bias": 2, "gamma": 1, "beta": 1}
    assert len(before) == 6
    for weight in network.trainable_variables:
        rate = 0.01 * rates[weight.name] * (10 if "dense" in weight.path else 1)
        decay = 0.5 if weight.name == "kernel" else 0
        expected = before[weight.path] - rate * (0.25 + decay * before[weight.path])
        np.testing.assert_allclose(weight, expected, rtol=1e-5, atol=1e-7, err_msg=weight.path)


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_a_loss_scale_changes_nothing(clip_norm: float) -> None:
    plain, scaled, dynamic = (make_variables() for _ in range(3))
    options = {"learning_rate": 0.1, "l2": 0.1, "clip_norm": clip_norm}
    optimizers = [
        CaffeSGD(**options),
        CaffeSGD(**options, loss_scale_factor=1024.0),
        keras.optimizers.LossScaleOptimizer(CaffeSGD(**options), initial_scale=1024.0),
    ]
    for step_gradients in random_gradients(3):
        for optimizer, variables, factor in zip(optimizers, (plain, scaled, dynamic), (1, 1024, 1024), strict=True):
            gradients = [tf.constant(factor * gradient) for gradient in step_gradients]
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
    for one, other, third in zip(plain, scaled, dynamic, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6)
        np.testing.assert_allclose(third, one, rtol=1e-6)


def test_options_that_it_does_not_have_are_refused() -> None:
    for name in ("nesterov", "clipnorm", "use_ema"):
        with pytest.raises(TypeError, match=name):
            CaffeSGD(**{name: True})


def test_two_variables_of_one_path_are_refused() -> None:
    variables = [keras.Variable(np.zeros(2), name="twin") for _ in range(2)]
    with pytest.raises(
        ValueError, match="two variables have the path 'twin': give their layers or networks other names"
    ):
        CaffeSGD().build(variables)


def test_variables_without_a_gradient_stay() -> None:
    variables = make_variables()
    before = [variable.numpy() for variable in variables]
    CaffeSGD(0.1).apply([None, tf.ones(2), None], variables)
    changed = [not np.array_equal(variable, value) for variable, value in zip(variables, before, strict=True)]
    assert changed == [False, True, False]
