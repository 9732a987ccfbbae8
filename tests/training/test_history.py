"""Snapshots of a few images' attention, which the report replays."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_stage import TinyStage

from oaa_tf.attention.cam import class_scores
from oaa_tf.attention.extraction import extract_attention
from oaa_tf.attention.history import Snapshot, read_history
from oaa_tf.command_line.errors import UserError
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.input_pipeline import frame_batches
from oaa_tf.training.history import AttentionHistory
from oaa_tf.training.observed_attention import ObservedAttention


@pytest.fixture
def stage(records: RecordSet, tmp_path: Path) -> TinyStage:
    return TinyStage.make("cls", records, tmp_path / "cls", accumulate_from_epoch=0)


def summaries_of(stage: TinyStage, positions: Sequence[int] = (0, 1, 3)) -> list[Callable[[int], None]]:
    observed = ObservedAttention(stage.model.network, stage.records, 32, positions)
    table = stage.model.cumulative_attention
    return [observed, AttentionHistory(stage.work_dir, stage.records, positions, observed, table, "max")]


def contents(work_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (work_dir / "attention_history").iterdir()}


def test_a_snapshot_has_what_network_and_table_say(stage: TinyStage) -> None:
    stage.train(summaries=summaries_of(stage), summaries_every=4)
    found = read_history(stage.work_dir)
    assert list(found) == [0, 4, 6]  # the end, too
    last, records = found[6], stage.records
    positions = (0, 1, 3)
    np.testing.assert_array_equal(
        last.slots, np.concatenate([np.arange(*records.first_slots[p : p + 2]) for p in positions])
    )
    maps = extract_attention(stage.model.network, records, 32, batch_size=2, label="all").maps
    # Where no score is positive, the network's maps show probabilities instead.
    has_score = last.attention.any(axis=(1, 2))
    assert has_score.any()
    np.testing.assert_allclose(last.attention[has_score] / 255, maps[last.slots][has_score], atol=0.6 / 255)
    table = stage.model.cumulative_attention
    np.testing.assert_allclose(last.cumulative / 255, table.read("max", last.slots), atol=1e-6)
    np.testing.assert_array_equal(last.num_updates, table.num_updates.numpy()[last.slots])
    assert last.num_updates.sum() > 0 and not found[0].num_updates.any() and not found[0].cumulative.any()
    batch = next(iter(frame_batches(records, 32, batch_size=1, chosen=[positions[0]])))
    logits = class_scores(stage.model.network(batch[keys.IMAGE], training=False), batch[keys.VALID])
    expected = 1 / (1 + np.exp(-logits.numpy()[0, list(records.labels[positions[0]])]))
    np.testing.assert_allclose(last.scores[: len(expected)], expected, rtol=1e-4)


def test_snapshots_are_read_in_order_beyond_a_million_steps(tmp_path: Path) -> None:
    folder = tmp_path / "attention_history"
    folder.mkdir()
    maps = np.zeros([1, 4, 4], np.uint8)
    for step in (1_000_000, 999_500):
        snapshot = Snapshot(np.array([0]), maps, maps, scores=np.zeros(1), num_updates=np.array([1]))
        snapshot.write(folder / f"step-{step:06d}.npz")
    (folder / "step-000000 (1).npz").write_text("somebody's copy")
    assert list(read_history(tmp_path)) == [999_500, 1_000_000]


@pytest.mark.slow
def test_a_resumed_run_leaves_the_same_files(stage: TinyStage, records: RecordSet, tmp_path: Path) -> None:
    stage.train(summaries=summaries_of(stage), summaries_every=1)
    resumed = TinyStage.make("cls", records, tmp_path / "resumed", accumulate_from_epoch=0)

    def stop_at_3(step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    # The checkpoint is of step 2: step 3 is written, lost and written again.
    with pytest.raises(KeyboardInterrupt):
        resumed.train(summaries=[*summaries_of(resumed), stop_at_3], summaries_every=1)
    before = contents(resumed.work_dir)
    assert max(before) == "step-000003.npz"
    again = TinyStage.make("cls", records, resumed.work_dir, accumulate_from_epoch=0)
    again.train(summaries=summaries_of(again), summaries_every=1)
    snapshots, others = read_history(stage.work_dir), read_history(resumed.work_dir)
    assert list(snapshots) == list(others) == list(range(7))
    for step, snapshot in snapshots.items():
        for field in dataclasses.fields(snapshot):
            np.testing.assert_array_equal(getattr(snapshot, field.name), getattr(others[step], field.name), field.name)


def test_the_training_is_the_same_with_and_without(stage: TinyStage, records: RecordSet, tmp_path: Path) -> None:
    stage.train(summaries=summaries_of(stage), summaries_every=1)
    without = TinyStage.make("cls", records, tmp_path / "without", accumulate_from_epoch=0)
    without.train()
    for one, other in zip(stage.model.network.weights, without.model.network.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), one.path)
    np.testing.assert_array_equal(
        stage.model.cumulative_attention.maximum.numpy(), without.model.cumulative_attention.maximum.numpy()
    )


def test_without_images_there_is_no_history(stage: TinyStage) -> None:
    for summary in summaries_of(stage, []):
        summary(5)
    assert read_history(stage.work_dir) == {}


def test_a_damaged_snapshot_is_named(stage: TinyStage) -> None:
    (stage.work_dir / "attention_history").mkdir()
    path = stage.work_dir / "attention_history/step-000010.npz"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UserError, match=rf"{path}: damaged; delete it"):
        read_history(stage.work_dir)


def test_maps_do_not_depend_on_which_images_are_chosen(records: RecordSet) -> None:
    every = {int(batch[keys.POSITION][0]): batch for batch in frame_batches(records, 32, batch_size=1)}
    chosen = list(frame_batches(records, 32, batch_size=1, chosen=[3, 1]))
    assert sorted(int(batch[keys.POSITION][0]) for batch in chosen) == [1, 3]
    for batch in chosen:
        for name, value in every[int(batch[keys.POSITION][0])].items():
            np.testing.assert_array_equal(batch[name], value, name)
