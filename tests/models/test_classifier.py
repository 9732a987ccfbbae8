"""The attention classifier on four tiny images."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.attention.cam import class_activation_maps, class_scores
from oaa_tf.attention.gates import open_gate
from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.data import keys
from oaa_tf.data.input_pipeline import training_batches
from oaa_tf.data.records import RecordSet
from oaa_tf.data.views import ViewOptions, attention_to_frame
from oaa_tf.models.class_aware import class_aware_network
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.models.vgg import vgg16_backbone

CANVAS = 32
VIEWS = ViewOptions(CANVAS, min_scale=0.8, max_scale=1.3)


def make_model(
    records: RecordSet, *, learning_rate: float = 0.005, run_eagerly: bool = False, **options
) -> AttentionClassifier:
    keras.utils.set_random_seed(0)
    network = class_aware_network(vgg16_backbone(3), num_classes=len(records.classes))
    table = CumulativeAttention(records.first_slots, CANVAS // 8)
    model = AttentionClassifier(network, table, **options)
    optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9, global_clipnorm=5.0)
    model.compile(optimizer=optimizer, jit_compile=False, run_eagerly=run_eagerly)
    return model


def batches(records: RecordSet, num_steps: int, batch_size: int = 4) -> tf.data.Dataset:
    return training_batches(records, VIEWS, batch_size=batch_size, seed=0, first_step=0, num_steps=num_steps)


def test_fit_learns_and_accumulates(records: RecordSet) -> None:
    model = make_model(records, gate="none")
    first, _, last = (model.fit(batches(records, num_steps), verbose=0).history for num_steps in (5, 60, 5))
    assert first.keys() == {"loss", "gated_share", "exact_match"}
    assert last["loss"][0] < 0.7 * first["loss"][0]
    assert first["gated_share"] == last["gated_share"] == [1]
    # Each `fit` begins at epoch 0, and a step is an epoch of four images here; the first one only warms up.
    assert model.cumulative_attention.num_updates.numpy().tolist() == [5 + 60 + 5 - 3] * 5
    assert model.cumulative_attention.read("max", range(5)).max() > 0.9


def test_the_table_holds_what_a_loop_in_numpy_collects(records: RecordSet) -> None:
    # Learning rate 0: the weights of every step are known.
    model = make_model(records, learning_rate=0.0, run_eagerly=True, gate="paper", accumulate_from_epoch=2)
    model.fit(batches(records, 10, batch_size=3), verbose=0)

    expected = np.zeros((5, CANVAS // 8, CANVAS // 8), np.float32)
    num_updates = np.zeros(5, int)
    for batch in batches(records, 10, batch_size=3):
        score_maps, valid = model.network(batch[keys.IMAGE]), batch[keys.VALID]
        gate = open_gate("paper", class_scores(score_maps, valid), batch[keys.LABELS]).numpy()
        attention, _ = attention_to_frame(
            class_activation_maps(score_maps, valid), valid, batch[keys.FRAME_VALID], batch[keys.VIEW]
        )
        for index, position in enumerate(batch[keys.POSITION].numpy()):
            for rank, label in enumerate(records.labels[position]):
                if gate[index, label] and batch[keys.EPOCH][index] >= 2:
                    slot = records.first_slots[position] + rank
                    expected[slot] = np.maximum(expected[slot], attention[index, ..., label])
                    num_updates[slot] += 1
    assert 0 < num_updates.sum() < 22
    np.testing.assert_array_equal(model.cumulative_attention.num_updates, num_updates)
    # Half a step of rounding, and a little for the other order of summation inside `fit`.
    np.testing.assert_allclose(model.cumulative_attention.read("max", range(5)), expected, atol=0.52 / 255)


def test_nothing_is_accumulated_while_warming_up(records: RecordSet) -> None:
    model = make_model(records, run_eagerly=True, gate="none", accumulate_from_epoch=2)
    model.fit(batches(records, 2), verbose=0)
    assert model.cumulative_attention.num_updates.numpy().sum() == 0
    model.fit(batches(records, 3), verbose=0)
    assert model.cumulative_attention.num_updates.numpy().tolist() == [1] * 5


def test_metrics_by_hand(records: RecordSet) -> None:
    model = make_model(records, learning_rate=0.0, gate="paper")
    (batch,) = batches(records, 1)
    results = {name: float(value) for name, value in model.train_step(batch).items()}
    scores = class_scores(model.network(batch[keys.IMAGE]), batch[keys.VALID]).numpy()
    labels = batch[keys.LABELS].numpy()
    gate = open_gate("paper", tf.constant(scores), tf.constant(labels)).numpy()
    assert results["gated_share"] == pytest.approx(gate.sum() / labels.sum(), abs=1e-6)
    assert results["exact_match"] == pytest.approx(np.mean(((scores > 0) == labels).all(axis=1)))
    cross_entropy = np.logaddexp(0, np.where(labels == 1, -scores, scores)).sum(axis=1)
    assert results["loss"] == pytest.approx(cross_entropy.mean(), rel=1e-4)


def test_a_step_with_a_loss_that_is_not_finite_leaves_the_table_alone(records: RecordSet) -> None:
    model = make_model(records, gate="none", accumulate_from_epoch=0)
    (batch,) = batches(records, 1)
    batch[keys.IMAGE] = tf.concat([batch[keys.IMAGE][:1] * np.nan, batch[keys.IMAGE][1:]], axis=0)
    assert not np.isfinite(float(model.train_step(batch)["loss"]))
    assert not any(variable.numpy().any() for variable in model.cumulative_attention.variables)


def test_the_table_is_no_part_of_model_files_and_exports(records: RecordSet, tmp_path) -> None:
    model = make_model(records)
    (batch,) = batches(records, 1)
    model(batch[keys.IMAGE])
    ours = {id(variable) for variable in model.cumulative_attention.variables}
    assert ours.isdisjoint(id(variable) for variable in model.variables)
    model.network.export(tmp_path / "network", verbose=False)
    names = [name for name, _ in tf.train.list_variables(str(tmp_path / "network/variables/variables"))]
    assert len([name for name in names if name.endswith("VARIABLE_VALUE")]) >= 34
    assert not any("maximum" in name or "num_updates" in name or "attention" in name for name in names)


def test_unknown_gate_is_named(records: RecordSet) -> None:
    with pytest.raises(ValueError, match="gate='best': expected one of paper, topk, none"):
        make_model(records, gate="best")
