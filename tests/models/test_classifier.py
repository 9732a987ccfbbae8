"""The attention classifier on four tiny images."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.attention.cam import class_activation_maps, class_scores
from oaa_tf.attention.gates import open_gate
from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.input_pipeline import training_batches
from oaa_tf.data.views.view import attention_to_frame
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.models.class_aware import class_aware_network
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.models.vgg import vgg16_backbone

CANVAS = 32
VIEWS = ViewOptions(CANVAS, min_scale=0.8, max_scale=1.3)


def make_model(
    records: RecordSet, *, learning_rate: float = 0.005, run_eagerly: bool = False, **options
) -> AttentionClassifier:
    keras.utils.set_random_seed(0)
    network = class_aware_network(vgg16_backbone(3), len(records.classes), initializer="he")
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
    # A step is an epoch of four images here; the first one only warms up.
    assert model.cumulative_attention.num_updates.numpy().tolist() == [5 + 60 + 5 - 1] * 5
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
    with pytest.warns(UserWarning, match="is empty after 8 training images: .* from epoch 2"):
        model.fit(batches(records, 2), verbose=0)
    assert model.cumulative_attention.num_updates.numpy().sum() == 0
    model.fit(batches(records, 3), verbose=0)
    # These batches begin at epoch 0 again, but the model has seen two, and believes them for one.
    assert model.cumulative_attention.num_updates.numpy().tolist() == [2] * 5


def test_metrics_by_hand(records: RecordSet) -> None:
    model = make_model(records, learning_rate=0.0, gate="paper")
    (batch,) = batches(records, 1)
    results = {name: float(value) for name, value in model.train_step(batch).items()}
    scores = class_scores(model.network(batch[keys.IMAGE]), batch[keys.VALID]).numpy()
    labels = batch[keys.LABELS].numpy()
    gate = open_gate("paper", tf.constant(scores), tf.constant(labels)).numpy()
    assert results["gated_share"] == pytest.approx(gate.sum() / labels.sum(), abs=1e-6)
    by_class = model.gated_share_by_class.take()
    assert gate.any() and not gate.all()
    occurs = labels.any(axis=0)
    np.testing.assert_allclose(by_class[occurs], (gate.sum(axis=0) / np.maximum(labels.sum(axis=0), 1))[occurs])
    assert np.isnan(by_class[~occurs]).all()
    # From here on, it counts anew; evaluation does not count.
    model.test_step(batch)
    assert np.isnan(model.gated_share_by_class.take()).all()
    assert results["exact_match"] == pytest.approx(np.mean(((scores > 0) == labels).all(axis=1)))
    cross_entropy = np.logaddexp(0, np.where(labels == 1, -scores, scores)).sum(axis=1)
    assert results["loss"] == pytest.approx(cross_entropy.mean(), rel=1e-4)


def test_a_step_with_a_loss_that_is_not_finite_leaves_the_table_alone(records: RecordSet) -> None:
    model = make_model(records, gate="none", accumulate_from_epoch=0)
    (batch,) = batches(records, 1)
    batch[keys.IMAGE] = tf.concat([batch[keys.IMAGE][:1] * np.nan, batch[keys.IMAGE][1:]], axis=0)
    assert not np.isfinite(float(model.train_step(batch)["loss"]))
    assert not any(variable.numpy().any() for variable in model.cumulative_attention.variables)


def test_the_table_is_no_part_of_weights_and_exports(records: RecordSet, tmp_path) -> None:
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


# --- any network, and batches of one's own ---

LABELS = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1], [1, 1, 0]], np.float32)


def plain_model(**options) -> AttentionClassifier:
    """A network of stride 16 that is none of this package's, with normalisation and dropout."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(4, 3, strides=4, padding="same", activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Conv2D(4, 3, strides=4, padding="same", activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Conv2D(3, 1),
        ]
    )
    model = AttentionClassifier(network, CumulativeAttention.for_labels(LABELS, grid=2), gate="none", **options)
    model.compile(keras.optimizers.Adam(0.01))
    return model


def plain_batches(batch_size: int = 2) -> tf.data.Dataset:
    images = np.random.default_rng(0).uniform(0, 1, (4, 32, 32, 3)).astype(np.float32)
    examples = {keys.IMAGE: images, keys.LABELS: LABELS, keys.POSITION: np.arange(4)}
    return tf.data.Dataset.from_tensor_slices(examples).shuffle(4, seed=0).batch(batch_size)


def test_three_keys_are_enough_for_fit_with_callbacks_and_validation() -> None:
    model = plain_model(accumulate_from_epoch=2)
    seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, set(logs))))
    model.fit(plain_batches(), epochs=5, validation_data=plain_batches(), callbacks=[watch], verbose=0)
    names = {"loss", "gated_share", "exact_match"}
    assert seen == [(epoch, names | {f"val_{name}" for name in names}) for epoch in range(5)]
    # Epochs 0 and 1 only warm up, and validation accumulates nothing.
    assert model.cumulative_attention.num_updates.numpy().tolist() == [3] * 6
    model.fit(plain_batches(), initial_epoch=5, epochs=6, verbose=0)
    assert model.cumulative_attention.num_updates.numpy().tolist() == [4] * 6
    assert model.predict(np.zeros((1, 32, 32, 3)), verbose=0).shape == (1, 2, 2, 3)


@pytest.mark.parametrize("way", ["fit", "train_on_batch"])
def test_epochs_are_counted_over_all_calls(way: str, tmp_path, recwarn: pytest.WarningsRecorder) -> None:
    model = plain_model()

    def train_an_epoch() -> None:
        for batch in plain_batches():
            if way == "fit":
                model.fit(tf.data.Dataset.from_tensors(batch), epochs=1, verbose=0)
            else:
                model.train_on_batch(batch)

    for epoch in range(4):
        train_an_epoch()
        assert model.num_images == 4 * (epoch + 1)
        assert model.cumulative_attention.num_updates.numpy().tolist() == [epoch] * 6
        # A loaded model goes on counting.
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
    warned = [str(warning.message) for warning in recwarn if "cumulative attention is empty" in str(warning.message)]
    assert len(warned) == (2 if way == "fit" else 0)


def test_metrics_of_compile_see_labels_and_probabilities() -> None:
    model = plain_model()
    model.compile("sgd", metrics=[keras.metrics.AUC(multi_label=True, num_labels=3, name="auc"), "binary_accuracy"])
    history = model.fit(plain_batches(), epochs=2, validation_data=plain_batches(), verbose=0).history
    assert {"auc", "binary_accuracy", "val_auc", "loss", "exact_match"} < history.keys()
    batch = next(iter(plain_batches(4)))
    found = model.evaluate(plain_batches(4), return_dict=True, verbose=0)
    scores = np.mean(model.network(batch[keys.IMAGE]), axis=(1, 2))
    assert found["binary_accuracy"] == pytest.approx(
        np.mean((scores > 0) == (batch[keys.LABELS].numpy() > 0)), abs=1e-6
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("loss", {"loss": "mse"}),
        ("loss_weights", {"loss_weights": [2.0]}),
        ("weighted_metrics", {"weighted_metrics": []}),
    ],
)
def test_what_compile_can_not_use_is_refused(name: str, options: dict) -> None:
    with pytest.raises(ValueError, match=rf"compile\({name}=.*: AttentionClassifier has .*; leave {name} out"):
        plain_model().compile("sgd", **options)


@pytest.mark.parametrize("metrics", [None, ["mse"]])
@pytest.mark.parametrize("way", ["fit", "evaluate", "train_on_batch"])
def test_batches_that_are_no_dictionaries_are_refused(way: str, metrics: list[str] | None) -> None:
    model = plain_model()
    model.compile("sgd", metrics=metrics)
    batch = next(iter(plain_batches(4)))
    run = getattr(model, way)
    with pytest.raises(ValueError, match="batches that are dictionaries with image, labels, position; put targets"):
        run(batch[keys.IMAGE].numpy(), LABELS)
    with pytest.raises(ValueError, match="a batch has no position; expected a dictionary with image, labels, position"):
        run({name: batch[name].numpy() for name in (keys.IMAGE, keys.LABELS)})


def test_whole_images_are_accumulated_cell_by_cell() -> None:
    model = plain_model(accumulate_from_epoch=0)
    expected = np.zeros((6, 2, 2), np.float32)
    for batch in plain_batches():
        model.network.layers[-2].rate = 0.0
        weights = model.network.get_weights()
        score_maps = model.network(batch[keys.IMAGE], training=True).numpy()
        model.network.set_weights(weights)
        model.train_step(batch)
        positive = np.maximum(score_maps, 0)
        attention = positive / (positive.max(axis=(1, 2), keepdims=True) + 1e-8)
        for index, position in enumerate(batch[keys.POSITION].numpy()):
            for slot, label in zip(
                model.cumulative_attention.slots_of(position), np.flatnonzero(LABELS[position]), strict=True
            ):
                expected[slot] = attention[index, ..., label]
    assert expected.max() == pytest.approx(1)
    np.testing.assert_allclose(model.cumulative_attention.read("max", range(6)), expected, atol=0.6 / 255)


def test_a_table_of_another_grid_is_refused() -> None:
    model = plain_model()
    model = AttentionClassifier(model.network, CumulativeAttention.for_labels(LABELS, grid=3))
    model.compile("sgd")
    with pytest.raises(
        ValueError, match="the table has a grid of 3 x 3 cells, but the network's score maps have 2 x 2"
    ):
        model.fit(plain_batches(), verbose=0)


def test_keras_files_keep_weights_settings_and_table(tmp_path) -> None:
    model = plain_model(accumulate_from_epoch=0)
    model.fit(plain_batches(), epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    fresh = plain_model()
    fresh.load_weights(tmp_path / "model.weights.h5")
    assert (loaded.gate, loaded.accumulate_from_epoch) == ("none", 0)
    images = np.random.default_rng(1).uniform(0, 1, (1, 32, 32, 3)).astype(np.float32)
    for other in (loaded, fresh):
        np.testing.assert_array_equal(other(images), model(images))
        for variable, expected in zip(
            other.cumulative_attention.variables, model.cumulative_attention.variables, strict=True
        ):
            assert expected.numpy().any()
            np.testing.assert_array_equal(variable, expected)
    loaded.fit(plain_batches(), verbose=0)
    assert loaded.cumulative_attention.num_updates.numpy().tolist() == [3] * 6


def test_weights_with_another_table_are_refused(tmp_path) -> None:
    model = plain_model()
    model.save_weights(tmp_path / "model.weights.h5")
    other = AttentionClassifier(model.network, CumulativeAttention.for_labels(LABELS[:2], grid=2))
    with pytest.raises(ValueError, match="cumulative_attention_maximum"):
        other.load_weights(tmp_path / "model.weights.h5")
