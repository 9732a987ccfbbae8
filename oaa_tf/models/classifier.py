"""The classifier, which accumulates its attention while it trains (paper, Sec. 3.1-3.2)."""

import warnings
from typing import Any

import keras
import tensorflow as tf

from oaa_tf.attention.cam import class_activation_maps, class_scores
from oaa_tf.attention.gates import GATES, open_gate
from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.data.records import keys
from oaa_tf.data.views.view import attention_to_frame
from oaa_tf.losses import classification_loss, weights_of_images
from oaa_tf.models.gated_share import GatedShareByClass
from oaa_tf.models.trained_network import Batch, TrainedNetwork


@keras.saving.register_keras_serializable(package="oaa_tf")
class AttentionClassifier(TrainedNetwork):
    """A multi-label classifier with online attention accumulation.

        network = class_aware_network(vgg16_backbone(), num_classes=20)
        table = CumulativeAttention(records.first_slots, grid=38)
        model = AttentionClassifier(network, table)
        model.compile(optimizer)
        model.fit(batches, epochs=10)

    Batches are dictionaries, such as `oaa_tf.data.views.input_pipeline.training_batches` makes. Three keys are enough,
    with any network from images to score maps `[batch, grid, grid, C]` and a table of the same grid:

    - `image`, `[batch, height, width, 3]`, the input of the network;
    - `labels`, float32 `[batch, C]`, multi-hot;
    - `position`, int64 `[batch]`, the index of the image in the table, from 0.

    Images are then whole and upright. For images that are mirrored, scaled, cropped or padded, batches also hold
    `view`, `valid` and `frame_valid` (all three), and score maps have stride 8.

    An epoch is as many training images as the table has, over all calls of `fit` and `train_on_batch`. Batches of
    `training_batches` also hold `epoch`, int64 `[batch]`: each image's own, since images can wait for others of their
    shape into the next epoch. It counts unless the model is two epochs ahead of it, as when `fit` begins with the same
    batches again.

    The table belongs to the training, not to the network: export `model.network`. It is not among the weights of the
    model, but `save`, `save_weights` and the callbacks that use them save it.

    Attributes:
        cumulative_attention: The table.
        gated_share_by_class: The shares of the gate in training steps since they were last taken.
        num_images: Number of training images so far, int64 scalar.
    """

    required_keys = (keys.IMAGE, keys.LABELS, keys.POSITION)

    def __init__(
        self,
        network: keras.Model,
        cumulative_attention: CumulativeAttention,
        *,
        gate: str = "paper",
        accumulate_from_epoch: int = 1,
        negative_weight: float = 1.0,
        **kwargs,
    ) -> None:
        """Wraps a network.

        Args:
            network: From images to score maps, such as `oaa_tf.models.class_aware` makes.
            cumulative_attention: The table to keep up to date.
            gate: See `oaa_tf.attention.gates`.
            accumulate_from_epoch: Epochs (counted from 0) before this one accumulate nothing.
            negative_weight: Weight in the loss of images without labels, see `RecordSet.negative_weight`.

        Raises:
            ValueError: An unknown gate.
        """
        super().__init__(network, **kwargs)
        if gate not in GATES:
            raise ValueError(f"gate={gate!r}: expected one of {', '.join(GATES)}")
        self.gate = gate
        self.accumulate_from_epoch = accumulate_from_epoch
        self.negative_weight = negative_weight
        self.cumulative_attention = cumulative_attention
        self.gated_share_by_class = GatedShareByClass(network.output_shape[-1])
        self.num_images = self.add_weight(
            shape=(), dtype="int64", initializer="zeros", trainable=False, aggregation="sum", name="num_images"
        )
        self.gated_share = keras.metrics.Mean(name="gated_share")
        self.exact_match = keras.metrics.Mean(name="exact_match")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments; the table is described without what it has accumulated."""
        return super().get_config() | {
            "cumulative_attention": keras.saving.serialize_keras_object(self.cumulative_attention),
            "gate": self.gate,
            "accumulate_from_epoch": self.accumulate_from_epoch,
            "negative_weight": self.negative_weight,
        }

    def save_own_variables(self, store):
        """Saves the table; Keras saves weights and metrics by itself."""
        super().save_own_variables(store)
        for name, variable in self._table_variables.items():
            store[name] = variable.numpy()

    def load_own_variables(self, store):
        """Loads the table.

        Raises:
            ValueError: The file has no table, or one of another shape.
        """
        arrays = dict(store)
        for name, variable in self._table_variables.items():
            array = arrays.pop(name, None)
            if array is None or array.shape != tuple(variable.shape):
                found = None if array is None else array.shape
                raise ValueError(f"{name}: expected an array of shape {tuple(variable.shape)}, found {found}")
            variable.assign(array)
        super().load_own_variables(arrays)

    @property
    def _table_variables(self) -> dict[str, tf.Variable]:
        table = self.cumulative_attention
        return {f"cumulative_attention_{v.name.split(':')[0].split('/')[-1]}": v for v in table.variables}

    def fit(self, *args, **kwargs):
        """Trains as `keras.Model.fit` does, and warns if the table is empty then."""
        history = super().fit(*args, **kwargs)
        if warning := self.empty_table_warning():
            warnings.warn(warning, stacklevel=2)
        return history

    def empty_table_warning(self) -> str | None:
        """Why nothing has been accumulated, and what to do; None if something has."""
        table = self.cumulative_attention
        if not table.num_slots or table.num_updates.numpy().any():
            return None
        return (
            f"the table of cumulative attention is empty after {int(self.num_images.numpy())} training images: it takes"
            f" what passes the gate ({self.gate}) from epoch {self.accumulate_from_epoch} on, counted from 0, and an"
            f" epoch has {table.num_images} images; train longer"
        )

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step of gradient descent with a batch."""
        results = super().train_step(data)
        # Not in `observe`, which may run inside a loop, where replicas cannot add up their parts.
        num_images = tf.shape(self._checked(data)[keys.IMAGE], out_type=tf.int64)[0]
        self.num_images.value.assign_add(num_images)
        return results

    def compute_loss_of(self, batch: Batch, training: bool = True) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The classification loss (Sec. 3.1), as the mean over images."""
        score_maps = self.network(batch[keys.IMAGE], training=training)
        scores = class_scores(score_maps, _valid(batch, score_maps))
        labels = batch[keys.LABELS]
        loss = classification_loss(scores, labels, weights_of_images(labels, self.negative_weight))
        return loss, tf.cast(tf.shape(scores)[0], tf.float32), score_maps

    def targets_and_predictions(self, batch: Batch, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Labels and probabilities p_c (Eq. 1), float32 `[batch, C]`."""
        return batch[keys.LABELS], tf.sigmoid(class_scores(scores, _valid(batch, scores)))

    def observe(self, batch: Batch, scores: tf.Tensor, loss: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The attention of the forward pass of a training step to accumulate; none if the loss is not finite."""
        labels = batch[keys.LABELS]
        gate = open_gate(self.gate, class_scores(scores, _valid(batch, scores)), labels)
        attention, seen = self.attention_on_frame(batch, scores)
        grid = self.cumulative_attention.grid
        if not attention.shape[1:3].is_compatible_with([grid, grid]):
            raise ValueError(
                f"the table has a grid of {grid} x {grid} cells, but the network's score maps have"
                f" {attention.shape[1]} x {attention.shape[2]}: make the table for those, of square images of one size"
            )
        epoch = self.num_images.value // max(self.cumulative_attention.num_images, 1)
        if keys.EPOCH in batch:
            epoch = tf.maximum(epoch - 1, batch[keys.EPOCH])
        has_begun = tf.reshape(epoch >= self.accumulate_from_epoch, [-1, 1])
        chosen = gate & has_begun & tf.math.is_finite(loss)
        self.gated_share_by_class.update(gate, labels)
        self.measure(batch, scores)
        return self.cumulative_attention.rows(batch[keys.POSITION], labels, chosen, attention, seen)

    @property
    def observed_spec(self) -> tuple[tf.TensorSpec, ...]:
        """Rows of the table."""
        return self.cumulative_attention.row_spec

    def remember(self, *observed: tf.Tensor) -> None:
        """Accumulates the attention of a batch."""
        self.cumulative_attention.add(*observed)

    def attention_on_frame(self, batch: Batch, score_maps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Brings the class activation maps of a forward pass to the frame's grid.

        Returns:
            Attention, float32 `[batch, grid, grid, C]` in [0, 1], and the cells that the view shows, bool
            `[batch, grid, grid]`.
        """
        valid = _valid(batch, score_maps)
        attention = class_activation_maps(score_maps, valid)
        if keys.VIEW not in batch:
            return attention, valid
        return attention_to_frame(attention, valid, batch[keys.FRAME_VALID], batch[keys.VIEW])

    def measure(self, batch: Batch, scores: tf.Tensor) -> None:
        """Also measures the share of pairs that pass the gate, and the share of images with all labels right."""
        super().measure(batch, scores)
        labels, scores = batch[keys.LABELS], class_scores(scores, _valid(batch, scores))
        gate = open_gate(self.gate, scores, labels)
        self.gated_share.update_state(gate, sample_weight=labels)
        self.exact_match.update_state(tf.reduce_all((scores > 0) == (labels > 0), axis=1))


def _valid(batch: Batch, score_maps: tf.Tensor) -> tf.Tensor:
    """The cells that show the image, bool `[batch, rows, columns]`; all of them if the batch does not say."""
    return batch[keys.VALID] if keys.VALID in batch else tf.ones(tf.shape(score_maps)[:3], tf.bool)
