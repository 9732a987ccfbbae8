"""One update, however the batch is computed."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.input_pipeline import training_batches
from oaa_tf.data.views.targets import segmentation_targets
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.make_records import MakeRecordsSettings
from oaa_tf.make_records import run as make_records
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.models.integral import IntegralAttentionModel
from oaa_tf.models.largefov import DeepLabLargeFOV
from oaa_tf.models.networks import NetworkDescription
from oaa_tf.models.pretrained import load_backbone_weights

CANVAS = 32


def make_model(kind: str, records: RecordSet, *, precision: str = "float32", width: int = 4, **options):
    keras.utils.set_random_seed(0)
    task = "segmentation" if kind == "segmentation" else "attention"
    network, _ = NetworkDescription(task, records.classes, CANVAS, width).build(
        initializer="centered_he", precision=precision
    )
    if kind == "classifier":
        table = CumulativeAttention(records.first_slots, CANVAS // 8)
        model = AttentionClassifier(network, table, gate="none", accumulate_from_epoch=0, **options)
    elif kind == "integral":
        model = IntegralAttentionModel(network, **options)
    else:
        model = DeepLabLargeFOV(network, **options)
    model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
    return model


SMALL_VIEWS = ViewOptions(CANVAS, square=True, min_scale=0.6, max_scale=1.2)


def make_batch(records: RecordSet, batch_size: int, views: ViewOptions = SMALL_VIEWS) -> dict[str, tf.Tensor]:
    targets = segmentation_targets(None)
    (batch,) = training_batches(
        records, views, batch_size=batch_size, seed=1, first_step=0, num_steps=1, targets=targets
    )
    generator = np.random.default_rng(0)
    shape = (batch_size, views.grid, views.grid, len(records.classes))
    attention = generator.uniform(0, 1, shape) * (generator.random(shape) < 0.6)
    return batch | {keys.ATTENTION: tf.constant(attention, tf.float32)}


def without_dropout(model):
    for layer in model.network.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model


@pytest.mark.parametrize("kind", ["classifier", "integral", "segmentation"])
@pytest.mark.parametrize("parts", [2, 3, 6])
def test_parts_give_the_update_of_the_whole_batch(records: RecordSet, kind: str, parts: int) -> None:
    batch = make_batch(records, 6)
    if kind == "segmentation":
        # The parts have different numbers of labelled pixels.
        labelled = batch[keys.SEGMENTATION].numpy()
        labelled[:2, :, 5:] = 255
        batch[keys.SEGMENTATION] = tf.constant(labelled)
    whole, split = (without_dropout(make_model(kind, records, accumulate_steps=steps)) for steps in (1, parts))
    results = []
    for model in (whole, split):
        step = tf.function(model.train_step)
        results.append({name: float(value) for name, value in step(batch).items()})
    for name, value in results[0].items():
        assert results[1][name] == pytest.approx(value, rel=1e-4), name
    for one, other in zip(whole.network.weights, split.network.weights, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=1e-4, atol=1e-6, err_msg=one.path)
    if kind == "classifier":
        tables = (model.cumulative_attention for model in (whole, split))
        one, other = (table.read("max", range(table.num_slots)) for table in tables)
        assert one.max() > 0.9
        np.testing.assert_allclose(other, one, atol=1.01 / 255)


def gradients_of(model, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The loss' gradients by the paths of the variables."""
    variables = model.network.trainable_variables

    @tf.function
    def compute() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss, _, _ = model.compute_loss_of(batch)
        return tape.gradient(loss, variables)

    return dict(zip((variable.path for variable in variables), compute(), strict=True))


@pytest.fixture(scope="module")
def real_records(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordSet:
    folder = tmp_path_factory.mktemp("real")
    make_records(
        MakeRecordsSettings(voc_dir=str(real_data / "voc12_animals"), split="mini_val", output_dir=str(folder))
    )
    return RecordSet.open(folder / "mini_val.json")


@pytest.mark.parametrize("kind", ["classifier", "integral", "segmentation"])
def test_all_gradients_of_vgg16_in_bfloat16_are_within_a_tenth(
    real_data: Path, real_records: RecordSet, kind: str
) -> None:
    """Of each variable's norm. (With random weights or noise as images, rounding grows more from layer to layer.)"""
    batch = make_batch(real_records, 8, ViewOptions(128, square=True))
    gradients = []
    for precision in ("float32", "bfloat16"):
        model = without_dropout(make_model(kind, real_records, precision=precision, width=64))
        backbone = next(layer for layer in model.network.layers if layer.name == "vgg16")
        load_backbone_weights(backbone, str(real_data / "weights/vgg16_imagenet_notop.weights.h5"))
        assert all(variable.dtype == "float32" for variable in model.network.trainable_variables)
        gradients.append(gradients_of(model, batch))
    for path, expected in gradients[0].items():
        error = float(tf.norm(gradients[1][path] - expected) / tf.norm(expected))
        assert error < 0.1, f"{path}: {error:.3f}"
