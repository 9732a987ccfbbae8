"""Optimizers with learning rates by variable: SGD with momentum as Caffe defines it, and AdamW."""

from collections.abc import Collection, Iterator
from typing import Any

import keras
import tensorflow as tf


class RatesByVariable(keras.optimizers.Optimizer):
    """What the optimizers here share: a learning-rate multiplier per variable, and clipping by the global norm.

    It takes the place of Keras' own `apply`, which knows neither rates nor decay by variable and clips each replica's
    gradients alone. Every replica updates its own copy of the variables, all with the same sum of gradients.

    Attributes:
        multipliers: Learning-rate multipliers by `variable.path`; 1 where none is given.
        clip_norm: Gradients are scaled down to this global norm; 0: not at all.
    """

    multipliers: dict[str, float]
    clip_norm: float

    def build(self, variables):
        """Makes the state of each variable.

        Raises:
            ValueError: Two variables have the same path.
        """
        super().build(variables)
        self._numbers = {variable.path: number for number, variable in enumerate(variables)}
        if len(self._numbers) < len(variables):
            twice = next(v.path for number, v in enumerate(variables) if self._numbers[v.path] != number)
            raise ValueError(f"two variables have the path {twice!r}: give their layers or networks other names")

    def apply(self, grads, trainable_variables):
        """Updates all variables; the gradients of several replicas are added up."""
        variables = list(trainable_variables)
        if not self.built:
            self.build(variables)
        pairs = [
            (gradient, variable) for gradient, variable in zip(grads, variables, strict=True) if gradient is not None
        ]
        gradients = [tf.convert_to_tensor(gradient) for gradient, _ in pairs]
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        factor = 1.0 / (self.loss_scale_factor or 1.0)
        if self.clip_norm:
            norm = factor * tf.linalg.global_norm(gradients)
            factor *= tf.minimum(1.0, tf.math.divide_no_nan(self.clip_norm, norm))
        learning_rate = tf.convert_to_tensor(self.learning_rate)
        for gradient, (_, variable) in zip(gradients, pairs, strict=True):
            rate = learning_rate * self.multipliers.get(variable.path, 1.0)
            self._update(variable, self._numbers[variable.path], gradient, factor, rate)
        self.iterations.assign_add(1)

    def _update(
        self, variable: keras.Variable, number: int, gradient: tf.Tensor, factor: float | tf.Tensor, rate: tf.Tensor
    ) -> None:
        """Updates one variable with `factor * gradient`."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="oaa_tf")
class CaffeSGD(RatesByVariable, keras.optimizers.SGD):
    """SGD with momentum, a learning-rate multiplier per variable, and weight decay as an L2 penalty.

        velocity = momentum * velocity - multiplier * learning_rate * (gradient + weight_decay * variable)
        variable = variable + velocity

    The `weight_decay` of Keras' optimizers is decoupled, which is not what the paper used; hence `l2`.
    """

    def __init__(
        self,
        learning_rate=1e-3,
        *,
        momentum: float = 0.9,
        l2: float = 0.0,
        multipliers: dict[str, float] | None = None,
        without_l2: tuple[str, ...] = (),
        clip_norm: float = 0.0,
        loss_scale_factor: float | None = None,
        name: str = "caffe_sgd",
    ) -> None:
        """Makes the optimizer.

        Args:
            learning_rate: A number or a Keras schedule.
            momentum: Momentum, in (0, 1).
            l2: Weight decay, the coefficient of the L2 penalty's gradient.
            multipliers: Learning-rate multipliers by `variable.path`; 1 where none is given.
            without_l2: Paths of the variables without weight decay.
            clip_norm: Gradients are scaled down to this global norm, before weight decay is added; 0: not at all.
            loss_scale_factor: Factor of the loss by which gradients are divided; None for 1.
            name: Name of the optimizer.

        Raises:
            ValueError: The momentum is not in (0, 1).
        """
        if not 0 < momentum < 1:
            raise ValueError(f"momentum={momentum}: expected a number in (0, 1)")
        super().__init__(learning_rate, momentum=momentum, loss_scale_factor=loss_scale_factor, name=name)
        self.clip_norm = clip_norm
        self.l2 = l2
        self.multipliers = dict(multipliers or {})
        self.without_l2 = tuple(without_l2)

    def _update(self, variable, number, gradient, factor, rate):
        weights, velocity, momentum = variable.value, self.momentums[number].value, tf.constant(self.momentum)
        # Two kernels that work in place; the plain formula would go over the weights seven times. The second kernel
        # multiplies the decay by the momentum, hence the division. It takes the factor as one of the learning rate,
        # since a product with the gradient would be another pass.
        if self.l2 and variable.path not in self.without_l2:
            decay = rate * self.l2 / momentum
            tf.raw_ops.ResourceApplyGradientDescent(var=velocity.handle, alpha=decay, delta=weights)
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=weights.handle, accum=velocity.handle, lr=rate * factor, grad=gradient, momentum=momentum
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        config = super().get_config()
        own = {"l2": self.l2, "multipliers": self.multipliers, "without_l2": list(self.without_l2)}
        own["clip_norm"] = self.clip_norm
        return {name: config[name] for name in ("name", "learning_rate", "momentum", "loss_scale_factor")} | own


@keras.saving.register_keras_serializable(package="oaa_tf")
class LayerwiseAdamW(RatesByVariable):
    """AdamW (Loshchilov, Hutter, ICLR 2019) with a learning-rate multiplier per variable.

    variable = variable - multiplier * learning_rate * (adam_step(gradient) + decay * variable)
    """

    def __init__(
        self,
        learning_rate=1e-4,
        *,
        decay: float = 0.0,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        multipliers: dict[str, float] | None = None,
        without_decay: tuple[str, ...] = (),
        clip_norm: float = 0.0,
        loss_scale_factor: float | None = None,
        name: str = "layerwise_adamw",
    ) -> None:
        """Makes the optimizer.

        Args:
            learning_rate: A number or a Keras schedule.
            decay: Weight decay.
            beta_1: Decay of the mean of gradients.
            beta_2: Decay of the mean of their squares.
            epsilon: Added to the root of the latter.
            multipliers: As in `CaffeSGD`; so are `clip_norm`, `loss_scale_factor` and `name`.
            without_decay: Paths of the variables without weight decay.
            clip_norm: Gradients are scaled down to this global norm; 0: not at all.
            loss_scale_factor: Factor of the loss by which gradients are divided; None for 1.
            name: Name of the optimizer.
        """
        super().__init__(learning_rate, loss_scale_factor=loss_scale_factor, name=name)
        self.decay, self.beta_1, self.beta_2, self.epsilon = decay, beta_1, beta_2, epsilon
        self.multipliers = dict(multipliers or {})
        self.without_decay = tuple(without_decay)
        self.clip_norm = clip_norm

    def build(self, variables):
        """Makes the two means of each variable; raises as `CaffeSGD.build`."""
        super().build(variables)
        self.means, self.squares = (
            [self.add_variable_from_reference(variable, name=name) for variable in variables]
            for name in ("mean", "square")
        )

    def _update(self, variable, number, gradient, factor, rate):
        weights = variable.value
        if self.decay and variable.path not in self.without_decay:
            tf.raw_ops.ResourceApplyGradientDescent(var=weights.handle, alpha=rate * self.decay, delta=weights)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=weights.handle,
            m=self.means[number].value.handle,
            v=self.squares[number].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient * factor,
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        config = super().get_config()
        names = ("decay", "beta_1", "beta_2", "epsilon", "multipliers", "clip_norm")
        own: dict[str, Any] = {name: getattr(self, name) for name in names}
        own["without_decay"] = list(self.without_decay)
        return {name: config[name] for name in ("name", "learning_rate", "loss_scale_factor")} | own


def paper_optimizer(
    network: keras.Model,
    backbone: keras.Model,
    schedule,
    *,
    momentum: float = 0.9,
    weight_decay: float = 2e-4,
    new_layer_multiplier: float = 10.0,
    clip_norm: float = 0.0,
    pretrained_layers: Collection[str] = (),
    kind: str = "sgd",
) -> keras.optimizers.Optimizer:
    """The paper's optimizer: new layers learn faster, biases twice as fast; only kernels have weight decay.

    Kernels are the weights with two or more axes, of layers of any kind. The others are biases, and scales and offsets
    of normalisation layers.

    Args:
        network: The whole network.
        backbone: Its pretrained part.
        schedule: Learning rate or Keras schedule.
        momentum: Momentum.
        weight_decay: L2 coefficient of the kernels.
        new_layer_multiplier: Learning-rate multiplier of the new layers.
        clip_norm: Global norm to clip gradients to; 0 for none.
        pretrained_layers: Names of further layers that are pretrained; every other layer is new.
        kind: "sgd", the paper's, or "adamw", which has no momentum to choose and the same rate for biases.
    """
    pretrained = {id(weight) for weight in backbone.weights}
    multipliers, without_l2 = {}, []
    for layer in layers_with_weights(network):
        for weight in layer.weights:
            is_new = id(weight) not in pretrained and layer.name not in pretrained_layers
            is_bias = kind == "sgd" and weight is getattr(layer, "bias", None)
            multipliers[weight.path] = (new_layer_multiplier if is_new else 1.0) * (2.0 if is_bias else 1.0)
            if len(weight.shape) < 2:
                without_l2.append(weight.path)
    if kind == "adamw":
        return LayerwiseAdamW(
            schedule, decay=weight_decay, multipliers=multipliers, without_decay=tuple(without_l2), clip_norm=clip_norm
        )
    return CaffeSGD(
        schedule,
        momentum=momentum,
        l2=weight_decay,
        multipliers=multipliers,
        without_l2=tuple(without_l2),
        clip_norm=clip_norm,
    )


def layers_with_weights(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """The layers of a network that have weights, and of networks inside it."""
    if isinstance(layer, keras.Model):
        for inner in layer.layers:
            yield from layers_with_weights(inner)
    elif layer.weights:
        yield layer
