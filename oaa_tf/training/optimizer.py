"""SGD with momentum as Caffe defines it: per-variable learning rates and L2 weight decay."""

from collections.abc import Collection

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="oaa_tf")
class CaffeSGD(keras.optimizers.SGD):
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
        name: str = "caffe_sgd",
        **kwargs,
    ) -> None:
        """Makes the optimizer.

        Args:
            learning_rate: A number or a Keras schedule.
            momentum: Momentum, in (0, 1).
            l2: Weight decay, the coefficient of the L2 penalty's gradient.
            multipliers: Learning-rate multipliers by `variable.path`; 1 where none is given.
            without_l2: Paths of the variables without weight decay.
            clip_norm: Gradients are scaled down to this global norm, before weight decay is added; 0: not at all.
            name: Name of the optimizer.
            **kwargs: As `keras.optimizers.SGD`.

        Raises:
            ValueError: The momentum is not in (0, 1).
        """
        if not 0 < momentum < 1:
            raise ValueError(f"momentum={momentum}: expected a number in (0, 1)")
        super().__init__(learning_rate, momentum=momentum, name=name, **kwargs)
        self.clip_norm = clip_norm
        self.l2 = l2
        self.multipliers = dict(multipliers or {})
        self.without_l2 = tuple(without_l2)

    def apply(self, grads, trainable_variables=None):
        """Updates all variables; the gradients of several replicas are added up."""
        self._clipping = 1.0
        if self.clip_norm:
            context = tf.distribute.get_replica_context()
            num_replicas = context.num_replicas_in_sync if context else 1
            if num_replicas > 1:
                # The norm is that of the sum; every replica then has its share of the sum.
                grads = [total / num_replicas for total in context.all_reduce(tf.distribute.ReduceOp.SUM, list(grads))]
            norm = num_replicas * tf.linalg.global_norm(grads)
            # As a factor of the learning rate: unlike Keras' clipping, it takes no pass of its own over the gradients.
            self._clipping = tf.minimum(1.0, tf.math.divide_no_nan(self.clip_norm, norm))
        super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable."""
        # The TensorFlow backend passes its own variable, which does not know its Keras path.
        index = self._get_variable_index(variable)
        path = self._trainable_variables[index].path
        rate = tf.cast(learning_rate * self.multipliers.get(path, 1.0), gradient.dtype)
        velocity = self.momentums[index].value
        momentum = tf.constant(self.momentum, gradient.dtype)
        # Two kernels that work in place; the plain formula would go over the weights seven times. The second kernel
        # multiplies the decay by the momentum, hence the division.
        if self.l2 and path not in self.without_l2:
            decay = rate * self.l2 / momentum
            tf.raw_ops.ResourceApplyGradientDescent(var=velocity.handle, alpha=decay, delta=variable)
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle, accum=velocity.handle, lr=rate * self._clipping, grad=gradient, momentum=momentum
        )

    def get_config(self):
        """Returns the optimizer's configuration."""
        config = {"l2": self.l2, "multipliers": self.multipliers, "without_l2": list(self.without_l2)}
        config["clip_norm"] = self.clip_norm
        return super().get_config() | config


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
) -> CaffeSGD:
    """The paper's optimizer: biases learn twice as fast and have no weight decay, new layers learn faster.

    Args:
        network: The whole network.
        backbone: Its pretrained part.
        schedule: Learning rate or Keras schedule.
        momentum: Momentum.
        weight_decay: L2 coefficient of the kernels.
        new_layer_multiplier: Learning-rate multiplier of the new layers.
        clip_norm: Global norm to clip gradients to; 0 for none.
        pretrained_layers: Names of further layers that are pretrained; every other layer is new.
    """
    multipliers, biases = {}, []
    for layer in [*backbone.layers, *network.layers]:
        if not isinstance(layer, keras.layers.Conv2D):
            continue
        is_pretrained = layer in backbone.layers or layer.name in pretrained_layers
        base = 1.0 if is_pretrained else new_layer_multiplier
        multipliers[layer.kernel.path] = base
        if layer.use_bias:
            multipliers[layer.bias.path] = 2.0 * base
            biases.append(layer.bias.path)
    return CaffeSGD(
        schedule,
        momentum=momentum,
        l2=weight_decay,
        multipliers=multipliers,
        without_l2=tuple(biases),
        clip_norm=clip_norm,
    )
