import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.input_pipeline import training_batches
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.models.class_aware import class_aware_network
from oaa_tf.models.integral import IntegralAttentionModel
from oaa_tf.models.vgg import vgg16_backbone

CANVAS = 32


def make_model(loss: str, learning_rate: float) -> IntegralAttentionModel:
    keras.utils.set_random_seed(0)
    model = IntegralAttentionModel(class_aware_network(vgg16_backbone(3), 3, initializer="he"), attention_loss=loss)
    model.compile(keras.optimizers.SGD(learning_rate, momentum=0.9, global_clipnorm=5.0), jit_compile=False)
    return model


def batches(records: RecordSet, num_steps: int, **views) -> tf.data.Dataset:
    """The attention of a class is its column of the grid."""

    def targets(example: dict, size: tf.Tensor, canvas: tf.Tensor) -> dict:
        columns = tf.one_hot(tf.range(4), 3) * 0.8 * example[keys.LABELS]
        return {keys.ATTENTION: tf.tile(columns[tf.newaxis], [4, 1, 1])}

    return training_batches(
        records, ViewOptions(CANVAS, **views), batch_size=4, seed=0, first_step=0, num_steps=num_steps, targets=targets
    )


def reference_loss(loss: str, scores: np.ndarray, targets: np.ndarray, valid: np.ndarray) -> float:
    """Eq. 6 or 9 in float64 for given targets on the view's grid."""
    scores = scores.astype(np.float64)
    total = 0.0
    for image in range(len(scores)):
        for c in range(3):
            x, p = scores[image, ..., c][valid[image]], targets[image, ..., c][valid[image]]
            log_q, log_not_q = -np.logaddexp(0, -x), -np.logaddexp(0, x)
            if loss == "mce":
                total -= np.mean(p * log_q + (1 - p) * log_not_q)
            else:
                total -= np.mean((p * log_q)[p > 0]) if np.any(p > 0) else 0
                total -= np.mean(log_not_q[p == 0]) if np.any(p == 0) else 0
    return total / len(scores)


@pytest.mark.parametrize("loss", ["hybrid", "mce"])
def test_the_loss_is_about_the_attention_as_the_view_shows_it(records: RecordSet, loss: str) -> None:
    model = make_model(loss, learning_rate=0.0)
    mirrored = set()
    for batch in batches(records, 4):
        model.reset_metrics()
        result = float(model.train_step(batch)["loss"])
        valid = batch[keys.VALID].numpy()
        # Views that are the frame or its mirror image: the attention is the frame's or its mirror image.
        flips = batch[keys.VIEW].numpy()[:, 4]
        targets = np.stack(
            [
                (np.flip(one, axis=1) if flip else one) * seen[..., np.newaxis]
                for one, flip, seen in zip(batch[keys.ATTENTION].numpy(), flips, valid, strict=True)
            ]
        )
        expected = reference_loss(loss, np.asarray(model.network(batch[keys.IMAGE])), targets, valid)
        assert result == pytest.approx(expected, rel=1e-4)
        mirrored |= set(flips)
    assert mirrored == {0, 1}


def test_fit_learns(records: RecordSet) -> None:
    model = make_model("hybrid", learning_rate=0.01)
    first = model.fit(batches(records, 20, flip=False), verbose=0).history["loss"][0]
    model.fit(batches(records, 40, flip=False), verbose=0)
    assert model.fit(batches(records, 5, flip=False), verbose=0).history["loss"][0] < 0.85 * first


def test_unknown_loss_is_named() -> None:
    with pytest.raises(ValueError, match="attention_loss='l2': expected one of hybrid, mce"):
        make_model("l2", 0.1)
