"""The integral attention model, OAA+ (paper, Sec. 3.3)."""

from typing import Any

import keras
import tensorflow as tf

from oaa_tf.data.records import keys
from oaa_tf.data.views.view import attention_to_view
from oaa_tf.losses import hybrid_loss, multi_label_cross_entropy, weights_of_images
from oaa_tf.models.trained_network import Batch, TrainedNetwork

LOSSES = {"hybrid": hybrid_loss, "mce": multi_label_cross_entropy}


@keras.saving.register_keras_serializable(package="oaa_tf")
class IntegralAttentionModel(TrainedNetwork):
    """Learns cumulative attention maps as soft labels, without pooling and classification loss.

    Batches are those of `training_batches`, with `keys.ATTENTION`: the cumulative attention on the frame's grid,
    float32 `[batch, grid, grid, classes]` in [0, 1], 0 for classes that are not in the image.

        model = IntegralAttentionModel(class_aware_network(vgg16_backbone(), num_classes=20))
        model.compile(optimizer)
        model.fit(batches)
    """

    required_keys = (keys.IMAGE, keys.LABELS, keys.ATTENTION, keys.VIEW, keys.VALID, keys.FRAME_VALID)

    def __init__(
        self, network: keras.Model, *, attention_loss: str = "hybrid", negative_weight: float = 1.0, **kwargs
    ) -> None:
        """Wraps a network.

        Args:
            network: From images to score maps, see `oaa_tf.models.class_aware`.
            attention_loss: "hybrid" (Eq. 9) or "mce" (Eq. 6).
            negative_weight: Weight in the loss of images without labels, see `RecordSet.negative_weight`.

        Raises:
            ValueError: An unknown loss.
        """
        super().__init__(network, **kwargs)
        if attention_loss not in LOSSES:
            raise ValueError(f"attention_loss={attention_loss!r}: expected one of {', '.join(LOSSES)}")
        self.attention_loss = attention_loss
        self.negative_weight = negative_weight

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"attention_loss": self.attention_loss, "negative_weight": self.negative_weight}
        return super().get_config() | own

    def compute_loss_of(self, batch: Batch, training: bool = True) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The loss between the score maps and the cumulative attention in the view, as the mean over images."""
        score_maps = self.network(batch[keys.IMAGE], training=training)
        weights = weights_of_images(batch[keys.LABELS], self.negative_weight)
        loss = LOSSES[self.attention_loss](score_maps, _targets(batch), batch[keys.VALID], weights)
        return loss, tf.cast(tf.shape(score_maps)[0], tf.float32), score_maps

    def targets_and_predictions(self, batch: Batch, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The cumulative attention p and q = sigmoid(F) of all cells that show an image, float32 `[n, classes]`."""
        return tuple(tf.boolean_mask(values, batch[keys.VALID]) for values in (_targets(batch), tf.sigmoid(scores)))


def _targets(batch: Batch) -> tf.Tensor:
    """The cumulative attention as the view shows it."""
    return attention_to_view(batch[keys.ATTENTION], batch[keys.FRAME_VALID], batch[keys.VALID], batch[keys.VIEW])
