"""Measures what training costs compared with the bare network.

    python -m tools.benchmark --quick --output=benchmark.json

Every comparison alternates between its candidates on the same data, and is reported as the median and the range of the
ratios of its rounds: machines differ, and other work on a machine slows both sides down.
"""

import dataclasses
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf

from oaa_tf import export
from oaa_tf.attention.cam import class_activation_maps
from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.canvases import choose_canvases, padding_share, whole_cells
from oaa_tf.data.views.frame import STRIDE, Frame
from oaa_tf.data.views.input_pipeline import training_batches
from oaa_tf.data.views.targets import segmentation_targets
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.demo.demo import CLASSES
from oaa_tf.models.backbones import freeze_blocks
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.models.convolution import Convolution
from oaa_tf.models.integral import IntegralAttentionModel
from oaa_tf.models.largefov import DeepLabLargeFOV
from oaa_tf.models.networks import NetworkDescription
from oaa_tf.runs.json_file import write_json
from oaa_tf.runs.metrics_file import versions
from oaa_tf.training.checkpoint import TrainingCheckpoint
from oaa_tf.training.initial_network import check_precision
from oaa_tf.training.optimizer import paper_optimizer
from tools.benchmark_candidates import (
    MERGES,
    TURNS,
    accumulation,
    bare_pass,
    benchmark_records,
    build_network,
    commonest_batch,
    compiled,
    forward_and_backward_of,
    merge,
    num_multiplications,
    training_step,
)
from tools.memory_use import printed_by
from tools.step_profile import step_profile

_CALLS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(Settings):
    """What to measure."""

    output: str = setting(help="JSON file for the figures.")
    quick: bool = setting(False, help="Only the main ratios, in less than five minutes on two cores.")
    voc_dir: str = setting(
        "", help="Folder in VOC layout with a train split; synthetic images of VOC's sizes if empty."
    )
    image_size: int = setting(160, help="Long side of training images in pixels.", minimum=32)
    batch_size: int = setting(5, help="Images per step.", minimum=1)
    width: int = setting(64, help="Channels of VGG16's first block.", minimum=1)
    repeats: int = setting(0, help="Rounds per comparison; 0: 9 if quick, else 15.", minimum=0)


def run(settings: BenchmarkSettings) -> dict[str, Any]:
    """Measures, prints a table and writes the JSON file.

    Returns:
        The file's content.

    Raises:
        UserError: The output can't be written or the data can't be used.
    """
    if settings.image_size % STRIDE:
        raise UserError(f"--image_size={settings.image_size}: expected a multiple of {STRIDE}")
    output = Path(settings.output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("a"):
            pass
    except OSError as error:
        raise UserError(f"--output={output}: cannot be written ({error.strerror})") from None
    # TensorFlow takes the steps of different models for one function that is traced again and again.
    tf.get_logger().setLevel("ERROR")
    bench = Benchmark(settings)
    try:
        with tempfile.TemporaryDirectory() as folder:
            bench.measure(Path(folder))
    finally:
        write_json(output, bench.results)
    print(bench.table())
    print(f"figures: {output}")
    return bench.results


class Benchmark:
    """The measurements of one run.

    Attributes:
        results: By name: numbers, for ratios the median; `details` has the ranges.
    """

    def __init__(self, settings: BenchmarkSettings) -> None:
        """Nothing is measured yet."""
        self.settings = settings
        self.repeats = settings.repeats or (9 if settings.quick else 15)
        self.results: dict[str, Any] = {}
        self._details: dict[str, dict[str, float]] = {}
        try:
            check_precision("bfloat16")
            self._has_bfloat16 = True
        except UserError as error:
            print(f"no bfloat16: {error}")
            self._has_bfloat16 = False

    def measure(self, folder: Path) -> None:
        """Takes all measurements; `folder` is for temporary files."""
        began = time.perf_counter()
        records = benchmark_records(self.settings.voc_dir, folder)
        size, batch_size = self.settings.image_size, self.settings.batch_size
        canvases = choose_canvases(records.sizes, size, min_images=batch_size)
        self._note("padding_share", padding_share(records.sizes, canvases))
        self._note(
            "padding_share_square", padding_share(records.sizes, choose_canvases(records.sizes, size, square=True))
        )
        batch = commonest_batch(records, ViewOptions(size), batch_size)
        step_seconds = self._steps(records, batch)
        self._variants(records, batch)
        self._accumulation(records, batch, step_seconds, folder)
        self._input_pipeline(records, step_seconds)
        self._slots(batch)
        self._inference(records, folder)
        self._wide_dilation()
        if not self.settings.quick:
            self._other_stages(records)
            self._memory()
        self._note("peak_memory_bytes", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        self._note("seconds", time.perf_counter() - began)
        self.results["details"] = self._details
        self.results["settings"] = self.settings.as_dict()
        self.results["environment"] = {"cores": os.cpu_count(), "cpu": _cpu_name()} | versions()

    def table(self) -> str:
        """The figures as text."""
        lines = []
        for name, value in self.results.items():
            if isinstance(value, dict):
                continue
            detail = self._details.get(name)
            shown = "-" if value is None else f"{value:,.4g}"
            lines.append(
                f"{name:<34} {shown:>14}" + (f"   {detail['low']:.4g} to {detail['high']:.4g}" if detail else "")
            )
        return "\n".join(lines)

    def _steps(self, records: RecordSet, batch: dict[str, tf.Tensor]) -> float:
        """Stage 1's step beside its network's forward and backward pass alone; seconds per step."""
        model = self._classifier(records)
        without = self._classifier(records, accumulate_from_epoch=1 << 30)
        candidates = {
            "bare": bare_pass(model, batch),
            "step": training_step(model, batch),
            "without": training_step(without, batch),
        }
        # Differences of percents take more rounds than the rest.
        seconds = self._alternate("training steps", candidates, repeats=2 * self.repeats)
        self._ratio("step_over_bare", seconds["step"], seconds["bare"])
        self._ratio("step_over_step_without_accumulation", seconds["step"], seconds["without"])
        step_seconds = statistics.median(seconds["step"])
        operations = 3 * 2 * num_multiplications(model.network, batch[keys.IMAGE].shape)
        self._note("step_operations", operations)
        self._note("step_operations_per_second", operations / statistics.median(seconds["bare"]))
        self._note("matmul_operations_per_second", self._matmul_rate())
        self._note("train_cls_images_per_second", self.settings.batch_size / step_seconds)
        if not self.settings.quick:
            print("profile ...", flush=True)
            self.results["profile"] = step_profile(candidates["step"])
            by_xla = self._alternate("XLA", {"bare": candidates["bare"], "xla": bare_pass(model, batch, xla=True)})
            self._ratio("xla_over_bare", by_xla["xla"], by_xla["bare"])
        return step_seconds

    def _variants(self, records: RecordSet, batch: dict[str, tf.Tensor]) -> None:
        """Stage 1's step with each option that changes its speed, beside the step without."""
        options: dict[str, dict[str, Any]] = {"step": {}}
        if self._has_bfloat16:
            options["bfloat16"] = {"precision": "bfloat16"}
        if not self.settings.quick:
            options |= {
                "frozen": {"frozen": 2},
                "recomputed": {"recompute": True},
                "parts": {"accumulate_steps": self.settings.batch_size},
            }
        candidates = {
            name: training_step(self._classifier(records, **chosen), batch) for name, chosen in options.items()
        }
        seconds = self._alternate("options", candidates)
        if "bfloat16" in seconds:
            self._ratio("bfloat16_speedup", seconds["step"], seconds["bfloat16"])
        else:
            self._note("bfloat16_speedup", None)
        if not self.settings.quick:
            self._ratio("freeze_two_blocks_speedup", seconds["step"], seconds["frozen"])
            self._ratio("recompute_over_step", seconds["recomputed"], seconds["step"])
            self._ratio("one_image_at_a_time_over_step", seconds["parts"], seconds["step"])

    def _matmul_rate(self) -> float:
        """What the cores do at best: floating-point operations per second of a large float32 product."""
        side = 2048
        matrix = tf.random.normal((side, side))
        multiply = tf.function(lambda: tf.reduce_sum(matrix @ matrix))
        seconds = self._alternate("matrix product", {"matmul": lambda: float(multiply())})["matmul"]
        return 2 * side**3 / min(seconds)

    def _accumulation(self, records: RecordSet, batch: dict[str, tf.Tensor], step_seconds: float, folder: Path) -> None:
        """What accumulation adds to a step, beside reading, merging and writing a PNG per image and class."""
        grid = self.settings.image_size // STRIDE
        table = CumulativeAttention(records.first_slots, grid)
        rows, columns = (side // STRIDE for side in batch[keys.IMAGE].shape[1:3])
        score_maps = tf.constant(
            np.random.default_rng(0).normal(size=(self.settings.batch_size, rows, columns, len(records.classes))),
            tf.float32,
        )
        pairs = np.argwhere(batch[keys.LABELS].numpy() > 0)
        maps = class_activation_maps(score_maps, batch[keys.VALID]).numpy()
        pngs = folder / "png"
        pngs.mkdir()
        positions = batch[keys.POSITION].numpy()
        paths = [str(pngs / f"{positions[image]}_{label}.png") for image, label in pairs]

        def png_loop() -> None:
            for path, (image, label) in zip(paths, pairs, strict=True):
                merged = np.rint(maps[image, :, :, label] * 255).astype(np.uint8)
                before = cv2.imread(path, cv2.IMREAD_GRAYSCALE) if os.path.exists(path) else None
                cv2.imwrite(path, merged if before is None else np.maximum(before, merged))

        candidates = {
            "whole": accumulation(table, batch, score_maps),
            "merge": merge(table, pairs, maps),
            "png": png_loop,
        }
        turns = {"whole": TURNS, "merge": MERGES, "png": 1}
        # Several calls at a time: in a training step, the executor's threads are awake already.
        candidates = {name: lambda call=call: [call() for _ in range(_CALLS)] for name, call in candidates.items()}
        seconds = self._alternate("accumulation", candidates, repeats=4 * self.repeats)
        seconds = {name: [value / (_CALLS * turns[name]) for value in values] for name, values in seconds.items()}
        self._ratio("accumulation_share", seconds["whole"], [step_seconds] * len(seconds["whole"]))
        # Both merge maps that are ready into what is stored.
        self._ratio("png_loop_over_accumulation", seconds["png"], seconds["merge"])
        # The whole: gate, maximum, the way back to the frame, checks, rounding.
        self._ratio("png_loop_over_whole_accumulation", seconds["png"], seconds["whole"])
        for name, values in seconds.items():
            self._note(f"accumulation_{name}_microseconds", 1e6 * statistics.median(values))
        self._note("bytes_per_cell", table.maximum.dtype.size)
        self._note("table_bytes", table.num_bytes)

    def _input_pipeline(self, records: RecordSet, step_seconds: float) -> None:
        """Images per second of the input pipeline alone, beside what training consumes."""
        num_batches = (50 if self.settings.quick else 400) // self.settings.batch_size
        options = {"batch_size": self.settings.batch_size, "seed": 0, "first_step": 0, "num_steps": num_batches}
        rates = []
        for _ in range(3):
            batches = iter(training_batches(records, ViewOptions(self.settings.image_size), **options))
            next(batches)
            began = time.perf_counter()
            num_read = sum(1 for _ in batches)
            rates.append(num_read * self.settings.batch_size / (time.perf_counter() - began))
        consumed = self.settings.batch_size / step_seconds
        self._ratio("pipeline_over_training", rates, [consumed] * len(rates))
        self._note("pipeline_images_per_second_per_core", statistics.median(rates) / os.cpu_count())

    def _slots(self, batch: dict[str, tf.Tensor]) -> None:
        """Whole training steps of a narrow network with tables for data sets of different sizes."""
        sizes = (1_000, 1_000_000) if self.settings.quick else (1_000, 10_000, 100_000, 1_000_000)
        grid = self.settings.image_size // STRIDE
        generator = np.random.default_rng(0)
        steps = {}
        for num_slots in sizes:
            # One label per image; the images of a batch lie anywhere in the table.
            table = CumulativeAttention(np.arange(num_slots + 1), grid)
            labels = tf.one_hot(generator.integers(0, len(CLASSES), self.settings.batch_size), len(CLASSES))
            positions = generator.integers(0, num_slots, self.settings.batch_size)
            changed = {keys.LABELS: labels, keys.POSITION: tf.constant(positions, tf.int64)}
            network, _ = build_network("attention", CLASSES, 8)
            model = compiled(AttentionClassifier(network, table, gate="none", accumulate_from_epoch=0))
            steps[str(num_slots)] = training_step(model, batch | changed)
        seconds = self._alternate("slots", steps, repeats=4 * self.repeats)
        smallest = seconds[str(sizes[0])]
        for num_slots in sizes[1:]:
            name = {10_000: "10k", 100_000: "100k", 1_000_000: "1m"}[num_slots]
            self._ratio(f"slots_{name}_over_1k_step", seconds[str(num_slots)], smallest)

    def _inference(self, records: RecordSet, folder: Path) -> None:
        """The exported model, from uint8 pixels to full-size maps, beside its network on a canvas that is ready."""
        description = NetworkDescription("attention", records.classes, self.settings.image_size, self.settings.width)
        network, backbone = description.build()
        model = AttentionClassifier(network, CumulativeAttention(records.first_slots, 1))
        model.compile(paper_optimizer(network, backbone, 1e-3, momentum=0.9, weight_decay=0.0,
                                      new_layer_multiplier=1.0, clip_norm=0.0), jit_compile=False)  # fmt: skip
        description.write(folder)
        TrainingCheckpoint(model, folder).save()
        export.run(export.ExportSettings(stage_dir=str(folder), output_dir=str(folder / "model")))
        signature = tf.saved_model.load(str(folder / "model")).signatures["attention"]
        image = records.record(0).image
        images = tf.constant(np.stack([image] * self.settings.batch_size))
        content = Frame(*image.shape[:2], self.settings.image_size).content
        ready = tf.zeros((self.settings.batch_size, *map(whole_cells, content), 3))
        bare = tf.function(lambda images: network(images, training=False))
        seconds = self._alternate(
            "inference", {"bare": lambda: bare(ready), "saved_model": lambda: signature(images=images)}
        )
        self._ratio("saved_model_over_bare", seconds["saved_model"], seconds["bare"])
        self._note("inference_images_per_second", self.settings.batch_size / statistics.median(seconds["saved_model"]))

    def _wide_dilation(self) -> None:
        """fc6, forward and backward, beside TensorFlow's dilated convolution."""
        inputs, outputs = 8 * self.settings.width, 16 * self.settings.width
        columns = self.settings.image_size // STRIDE
        cases = {"": ((3 * columns // 4, columns), "float32")}
        if not self.settings.quick:
            cases["_41x41_cells"] = ((41, 41), "float32")
            if self._has_bfloat16:
                cases["_bfloat16"] = (cases[""][0], "mixed_bfloat16")
        for name, (cells, dtype) in cases.items():
            features = tf.random.normal((self.settings.batch_size, *cells, inputs))
            candidates = {
                kind.__name__: forward_and_backward_of(
                    kind(outputs, 3, dilation_rate=12, padding="same", activation="relu", dtype=dtype), features
                )
                for kind in (Convolution, keras.layers.Conv2D)
            }
            seconds = self._alternate(f"dilation 12 on {cells[0]} x {cells[1]} cells, {dtype}", candidates, repeats=5)
            self._ratio(f"wide_dilation_speedup{name}", seconds["Conv2D"], seconds["Convolution"])

    def _other_stages(self, records: RecordSet) -> None:
        """Training steps of the integral attention model and the segmentation network beside their bare networks."""
        size, batch_size = self.settings.image_size, self.settings.batch_size
        for name, task in (("train_integral", "attention"), ("train_seg", "segmentation")):
            network, backbone = build_network(task, records.classes, self.settings.width)
            if task == "attention":
                batch = commonest_batch(records, ViewOptions(size), batch_size)
                grid = size // STRIDE
                attention = batch[keys.LABELS][:, tf.newaxis, tf.newaxis] * tf.random.uniform(
                    (batch_size, grid, grid, 1)
                )
                batch[keys.ATTENTION] = attention
                model = IntegralAttentionModel(network)
            else:
                views = ViewOptions(size, frame_size=size + size // 4)
                batch = commonest_batch(records, views, batch_size, segmentation_targets(None))
                model = DeepLabLargeFOV(network)
            compiled(model, backbone)
            seconds = self._alternate(name, {"bare": bare_pass(model, batch), "step": training_step(model, batch)})
            self._ratio(f"{name}_step_over_bare", seconds["step"], seconds["bare"])
            self._note(f"{name}_images_per_second", batch_size / statistics.median(seconds["step"]))

    def _memory(self) -> None:
        """Resident memory, in processes of their own.

        After 200 and after 1,200 steps of a narrow network; and what training the segmentation network on crops of the
        paper's size takes, with and without saving memory.
        """
        before, after = printed_by(f"print_memory_growth({self.settings.image_size})")
        self._note("memory_after_200_steps_bytes", before)
        self._note("memory_growth_over_1000_steps_bytes", after - before)
        for name, options in (
            ("segmentation", ""),
            ("segmentation_recompute", "recompute=True"),
            ("segmentation_one_image_at_a_time", f"accumulate_steps={self.settings.batch_size}"),
        ):
            arguments = f"{self.settings.width}, {self.settings.batch_size}, {options}"
            self._note(f"{name}_peak_memory_bytes", *printed_by(f"print_peak_memory({arguments})"))

    def _classifier(
        self,
        records: RecordSet,
        *,
        precision: str = "float32",
        recompute: bool = False,
        frozen: int = 0,
        **options,
    ) -> AttentionClassifier:
        network, backbone = build_network(
            "attention", records.classes, self.settings.width, precision=precision, recompute=recompute
        )
        freeze_blocks(backbone, frozen)
        table = CumulativeAttention(records.first_slots, self.settings.image_size // STRIDE)
        options = {"gate": "none", "accumulate_from_epoch": 0} | options
        return compiled(AttentionClassifier(network, table, **options), backbone)

    def _alternate(
        self, label: str, candidates: dict[str, Callable[[], Any]], repeats: int | None = None
    ) -> dict[str, list[float]]:
        """Seconds of each candidate by round; the first two calls of each warm up and do not count.

        Every other round goes backwards, so that what drifts over a round is no advantage to any of them.
        """
        print(f"{label}: {', '.join(candidates)} ...", flush=True)
        for candidate in candidates.values():
            candidate()
            candidate()
        seconds: dict[str, list[float]] = {name: [] for name in candidates}
        for number in range(repeats or self.repeats):
            for name in list(candidates)[:: -1 if number % 2 else 1]:
                began = time.perf_counter()
                candidates[name]()
                seconds[name].append(time.perf_counter() - began)
        return seconds

    def _ratio(self, name: str, above: list[float], below: list[float]) -> None:
        ratios = [one / other for one, other in zip(above, below, strict=True)]
        self.results[name] = statistics.median(ratios)
        self._details[name] = {"low": min(ratios), "high": max(ratios), "rounds": len(ratios)}

    def _note(self, name: str, value: float | None) -> None:
        self.results[name] = value


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    launch(BenchmarkSettings, run, "benchmark")
