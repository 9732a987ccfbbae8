"""The attention classifier, which accumulates attention while it trains (paper, Sec. 3.1-3.2)."""

import keras
import tensorflow as tf

from oaa_tf.attention.cam import class_activation_maps, class_scores
from oaa_tf.attention.gates import GATES, open_gate
from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.data import keys
from oaa_tf.data.views import attention_to_frame
from oaa_tf.losses import classification_loss
from oaa_tf.models.trained_network import TrainedNetwork


class AttentionClassifier(TrainedNetwork):
    """A multi-label classifier over a class-aware network, with online attention accumulation.

    Batches are dictionaries as `oaa_tf.data.input_pipeline.training_batches` makes them.

        network = class_aware_network(vgg16_backbone(), num_classes=20)
        table = CumulativeAttention(records.first_slots, grid=38)
        model = AttentionClassifier(network, table)
        model.compile(optimizer, jit_compile=False)
        model.fit(batches)

    The table belongs to the training, not to the network: export `model.network`.
    """

    def __init__(
        self,
        network: keras.Model,
        cumulative_attention: CumulativeAttention,
        *,
        gate: str = "paper",
        accumulate_from_epoch: int = 1,
        **kwargs,
    ) -> None:
        """Wraps a network.

        Args:
            network: From images to score maps, see `oaa_tf.models.class_aware`.
            cumulative_attention: The table to keep up to date.
            gate: See `oaa_tf.attention.gates`.
            accumulate_from_epoch: Epochs (counted from 0) before this one accumulate nothing.
        """
        super().__init__(network, **kwargs)
        if gate not in GATES:
            raise ValueError(f"gate={gate!r}: expected one of {', '.join(GATES)}")
        self.gate = gate
        self.accumulate_from_epoch = accumulate_from_epoch
        # In a tuple, Keras does not see the table: it would be saved with the model otherwise.
        self._untracked = (cumulative_attention,)
        self.gated_share = keras.metrics.Mean(name="gated_share")
        self.exact_match = keras.metrics.Mean(name="exact_match")

    @property
    def cumulative_attention(self) -> CumulativeAttention:
        """The table."""
        return self._untracked[0]

    def compute_loss_of(self, batch):
        """The classification loss (Sec. 3.1), the mean over images."""
        score_maps = self.network(batch[keys.IMAGE], training=True)
        scores = class_scores(score_maps, batch[keys.VALID])
        loss = classification_loss(scores, batch[keys.LABELS])
        return loss, tf.cast(tf.shape(scores)[0], tf.float32), (score_maps, scores, loss)

    def observe(self, batch, outputs):
        """Accumulates the attention of the step's own forward pass."""
        score_maps, scores, loss = outputs
        labels, valid = batch[keys.LABELS], batch[keys.VALID]
        gate = open_gate(self.gate, scores, labels)
        attention, seen = attention_to_frame(
            class_activation_maps(score_maps, valid), valid, batch[keys.FRAME_VALID], batch[keys.VIEW]
        )
        warm = batch[keys.EPOCH] >= self.accumulate_from_epoch
        self.cumulative_attention.update(
            batch[keys.POSITION], labels, gate & warm[:, tf.newaxis] & tf.math.is_finite(loss), attention, seen
        )
        self.gated_share.update_state(gate, sample_weight=labels)
        self.exact_match.update_state(tf.reduce_all((scores > 0) == (labels > 0), axis=1))
