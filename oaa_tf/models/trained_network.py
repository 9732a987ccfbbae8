"""The base class of the models that train a network."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import keras
import tensorflow as tf

from oaa_tf.data.records import keys

Batch = dict[str, tf.Tensor]


class TrainedNetwork(keras.Model):
    """Trains a network by gradient descent, and keeps it separate, so that it can be exported alone.

    A loss is a mean and comes with its weight, the number of images or pixels. So the update is the same whether a
    batch is computed at once, in parts, or by several replicas.

    Batches are dictionaries, in arrays, in a `tf.data.Dataset`, or one by one for `train_on_batch`.

    Attributes:
        required_keys: What a batch must hold.
        network: The functional model from images to scores.
        accumulate_steps: Number of parts of a batch that are computed one after the other, to save memory.
        loss_mean: Mean loss since the metrics were reset.
    """

    required_keys: ClassVar[tuple[str, ...]] = (keys.IMAGE,)

    def __init__(self, network: keras.Model, *, accumulate_steps: int = 1, **kwargs) -> None:
        """Wraps a network."""
        super().__init__(**kwargs)
        self.network = network
        # The network has all weights, so Keras can restore the optimizer of a loaded model at once.
        self.built = network.built
        self.accumulate_steps = accumulate_steps
        self._has_metrics = False
        self.loss_mean = keras.metrics.Mean(name="loss")

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "rmsprop",
        loss: None = None,
        *,
        metrics: Sequence[Any] | None = None,
        jit_compile: bool = False,
        **kwargs,
    ) -> None:
        """Configures the training.

        Args:
            optimizer: As in `keras.Model.compile`.
            loss: None: the loss is the model's own.
            metrics: Metrics of Keras, which see what `targets_and_predictions` returns.
            jit_compile: Whether to use XLA, which does not work with the classifier's table on the host.
            **kwargs: `run_eagerly`, `steps_per_execution` and `auto_scale_loss`, as in `keras.Model.compile`.

        Raises:
            ValueError: There is a loss, or weights of losses or metrics.
        """
        if loss is not None:
            raise ValueError(
                f"compile(loss={loss!r}): {type(self).__name__} has a loss of its own; leave loss out, or train"
                " model.network, a plain Keras model, with yours"
            )
        for name in ("loss_weights", "weighted_metrics"):
            if kwargs.pop(name, None) is not None:
                raise ValueError(f"compile({name}=...): {type(self).__name__} has no weights; leave {name} out")
        self._has_metrics = bool(metrics)
        super().compile(optimizer, metrics=metrics, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a model that was loaded, and makes the variables of its optimizer."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def call(self, inputs: tf.Tensor | Batch, training: bool = False) -> tf.Tensor:
        """Returns the network's scores of images, or of a batch's images."""
        return self.network(inputs[keys.IMAGE] if isinstance(inputs, dict) else inputs, training=training)

    def targets_and_predictions(self, batch: Batch, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What metrics of `compile` compare: targets, and predictions in [0, 1], of everything that counts.

        Args:
            batch: A batch.
            scores: The network's scores of its images.
        """
        raise NotImplementedError

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict[str, tf.Tensor]:
        """Updates the metrics of `compile` from a batch and the network's scores, and returns all metrics."""
        batch = self._checked((x, y, sample_weight))
        return super().compute_metrics(x, *self.targets_and_predictions(batch, y_pred))

    def _checked(self, data: Any) -> Batch:
        """The batch in what Keras passes to a step.

        Raises:
            ValueError: It is no dictionary, or lacks a key.
        """
        batch, *others = keras.utils.unpack_x_y_sample_weight(data)
        expected = ", ".join(self.required_keys)
        if not isinstance(batch, dict) or any(other is not None for other in others):
            raise ValueError(f"expected batches that are dictionaries with {expected}; put targets into them as well")
        if missing := [name for name in self.required_keys if name not in batch]:
            raise ValueError(f"a batch has no {', '.join(missing)}; expected a dictionary with {expected}")
        return batch

    def compute_loss_of(self, batch: Batch, training: bool = True) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Runs the network and computes the loss.

        Args:
            batch: Images and what the loss needs.
            training: Whether the network is in training mode.

        Returns:
            The loss, a mean, and its weight, the number of images or pixels (both float32 scalars); and the scores that
            the loss has seen.
        """
        raise NotImplementedError

    def observe(self, batch: Batch, scores: tf.Tensor, loss: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Uses the forward pass of a training step; by default to update metrics.

        Returns:
            What `remember` gets, as `observed_spec` says, with as many rows as there is something to remember.
        """
        self.measure(batch, scores)
        return ()

    @property
    def observed_spec(self) -> tuple[tf.TensorSpec, ...]:
        """The types and shapes of what `observe` returns; by default nothing."""
        return ()

    def remember(self, *observed: tf.Tensor) -> None:
        """Uses what `observe` has returned for all parts of a batch, on all replicas; once in every process."""

    def finish(self) -> None:
        """Called once after the last step, outside of replicas; by default nothing."""

    def measure(self, batch: Batch, scores: tf.Tensor) -> None:
        """Updates metrics from a forward pass, in training or evaluation; by default those of `compile`."""
        if self._has_metrics:
            self.compute_metrics(batch, None, scores)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step of gradient descent with a batch."""
        batch = self._checked(data)
        if self.accumulate_steps == 1:
            gradients, _, observed = self._gradients(batch, self._share_of_all_replicas)
        else:
            sums, weight, observed = self._gradients_in_parts(batch)
            share = self._share_of_all_replicas(weight)
            gradients = [tf.math.divide_no_nan(share, weight) * gradient for gradient in sums]
        context = tf.distribute.get_replica_context()
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer) and context.num_replicas_in_sync > 1:
            # It looks for overflow in the first replica's gradients only.
            sums = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients = [total / context.num_replicas_in_sync for total in sums]
        self.optimizer.apply_gradients(zip(gradients, self.network.trainable_variables, strict=True))
        if observed:
            self._remember_all(observed)
        return self.get_metrics_result()

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Loss and metrics of a batch, for `evaluate` and the validation data of `fit`."""
        batch = self._checked(data)
        loss, weight, scores = self.compute_loss_of(batch, training=False)
        self.loss_mean.update_state(loss, sample_weight=weight)
        self.measure(batch, scores)
        return self.get_metrics_result()

    def _gradients(
        self, batch: Batch, factor_of_weight: Callable[[tf.Tensor], tf.Tensor]
    ) -> tuple[list[tf.Tensor], tf.Tensor, Sequence[tf.Tensor]]:
        """Gradients of the loss times a factor, which depends on the weight of the loss; the weight; and `observe`."""
        with tf.GradientTape() as tape:
            loss, weight, scores = self.compute_loss_of(batch)
            scaled = self.optimizer.scale_loss(loss * factor_of_weight(weight))
        self.loss_mean.update_state(loss, sample_weight=weight)
        observed = self.observe(batch, scores, loss)
        variables = self.network.trainable_variables
        return tape.gradient(scaled, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO), weight, observed

    def _gradients_in_parts(self, batch: Batch) -> tuple[list[tf.Tensor], tf.Tensor, Sequence[tf.Tensor]]:
        """Gradients of the weighted sum of the losses of all parts, the sum of their weights, and `observe`."""
        batch_size = tf.shape(next(iter(batch.values())))[0]

        def add_part(index, sums, weight, observed):
            first, end = (k * batch_size // self.accumulate_steps for k in (index, index + 1))
            part = {name: value[first:end] for name, value in batch.items()}
            gradients, part_weight, of_part = self._gradients(part, lambda weight: weight)
            sums = [before + more for before, more in zip(sums, gradients, strict=True)]
            observed = [array.write(index, value) for array, value in zip(observed, of_part, strict=True)]
            return index + 1, sums, weight + part_weight, observed

        zeros = [tf.zeros_like(variable) for variable in self.network.trainable_variables]
        nothing = [
            tf.TensorArray(spec.dtype, self.accumulate_steps, infer_shape=False, element_shape=spec.shape)
            for spec in self.observed_spec
        ]
        _, sums, weight, observed = tf.while_loop(
            lambda index, *_: index < self.accumulate_steps,
            add_part,
            (tf.constant(0), zeros, tf.constant(0.0), nothing),
            parallel_iterations=1,
        )
        return sums, weight, [array.concat() for array in observed]

    def _remember_all(self, observed: Sequence[tf.Tensor]) -> None:
        """Calls `remember` with what all replicas have observed."""
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            self.remember(*observed)
            return
        counts = tf.ones(tf.shape(observed[0])[:1], tf.int32)
        # With one more row, which does not count: TensorFlow crashes if no replica has a row to gather.
        padded = [tf.pad(tensor, [[0, 1], *[[0, 0]] * (len(tensor.shape) - 1)]) for tensor in (counts, *observed)]

        def remember(strategy, *of_replicas):
            counts, *observed = (strategy.gather(tensor, axis=0) for tensor in of_replicas)
            self.remember(*(tf.boolean_mask(tensor, counts > 0) for tensor in observed))

        context.merge_call(remember, args=padded)

    def _share_of_all_replicas(self, weight: tf.Tensor) -> tf.Tensor:
        """This replica's share of the weight of all replicas, whose gradients the optimizer adds up."""
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            return tf.constant(1.0)
        return tf.math.divide_no_nan(weight, context.all_reduce(tf.distribute.ReduceOp.SUM, weight))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        network = keras.saving.serialize_keras_object(self.network)
        return {"name": self.name, "network": network, "accumulate_steps": self.accumulate_steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Makes the model from what `get_config` returned."""
        nested = {name: keras.saving.deserialize_keras_object(v) for name, v in config.items() if isinstance(v, dict)}
        return cls(**(config | nested))
