"""Measures what training costs, beside the bare network, as ratios within one run.

    python -m tools.benchmark --quick --output=benchmark.json

Every comparison alternates between its candidates on the same data, and is reported as the median and the range of the
ratios of its rounds: machines differ, and other work on a machine slows both sides down.
"""

import dataclasses
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf

from oaa_tf import export, make_records
from oaa_tf.attention.cam import class_activation_maps, class_scores
from oaa_tf.attention.gates import open_gate
from oaa_tf.attention.table import CumulativeAttention
from oaa_tf.data import keys
from oaa_tf.data.canvases import choose_canvases, padding_share
from oaa_tf.data.demo import CLASSES, draw_demo_image
from oaa_tf.data.frame import STRIDE, Frame
from oaa_tf.data.input_pipeline import training_batches
from oaa_tf.data.palette_png import write_indexed
from oaa_tf.data.records import RecordSet
from oaa_tf.data.views import ViewOptions, attention_to_frame
from oaa_tf.errors import UserError
from oaa_tf.launch import Settings, launch, setting
from oaa_tf.losses import classification_loss
from oaa_tf.metrics_file import versions, write_json
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.models.integral import IntegralAttentionModel
from oaa_tf.models.largefov import DeepLabLargeFOV
from oaa_tf.models.networks import NetworkDescription
from oaa_tf.models.vgg import freeze_blocks
from oaa_tf.train_seg import segmentation_targets
from oaa_tf.training.checkpoint import TrainingCheckpoint
from oaa_tf.training.loop import step_function
from oaa_tf.training.optimizer import paper_optimizer
from oaa_tf.training.start import check_precision

# Short side over long side of 1,473 images of PASCAL VOC 2012, a twentieth of them each.
_ASPECTS = (0.58, 0.65, 0.66, 0.67, 0.67, 0.67, 0.68, 0.7, 0.72, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.76,
            0.81, 0.93)  # fmt: skip
_UPRIGHT_SHARE = 0.24

_TURNS = 20


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
    repeats: int = setting(0, help="Rounds per comparison; 0: 5 if quick, else 15.", minimum=0)


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
        self.repeats = settings.repeats or (5 if settings.quick else 15)
        self.results: dict[str, Any] = {}
        self._details: dict[str, dict[str, float]] = {}

    def measure(self, folder: Path) -> None:
        """Takes all measurements; `folder` is for temporary files."""
        began = time.perf_counter()
        records = _records(self.settings.voc_dir, folder)
        size, batch_size = self.settings.image_size, self.settings.batch_size
        canvases = choose_canvases(records.sizes, size, min_images=batch_size)
        self._note("padding_share", padding_share(records.sizes, canvases))
        self._note(
            "padding_share_square", padding_share(records.sizes, choose_canvases(records.sizes, size, square=True))
        )
        batch = _batch(records, ViewOptions(size), batch_size)
        step_seconds = self._steps(records, batch)
        self._accumulation(records, batch, step_seconds, folder)
        self._input_pipeline(records, step_seconds)
        self._slots(batch)
        self._inference(records, folder)
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
        candidates = {"bare": _bare(model, batch), "step": _step(model, batch), "without": _step(without, batch)}
        try:
            check_precision("bfloat16")
            candidates["bfloat16"] = _step(self._classifier(records, precision="bfloat16"), batch)
        except UserError as error:
            print(f"no bfloat16: {error}")
        if not self.settings.quick:
            candidates["frozen"] = _step(self._classifier(records, frozen=2), batch)
            candidates["parts"] = _step(self._classifier(records, accumulate_steps=batch[keys.IMAGE].shape[0]), batch)
        seconds = self._alternate("training steps", candidates)
        self._ratio("step_over_bare", seconds["step"], seconds["bare"])
        self._ratio("step_over_step_without_accumulation", seconds["step"], seconds["without"])
        if "bfloat16" in seconds:
            self._ratio("bfloat16_speedup", seconds["step"], seconds["bfloat16"])
        else:
            self._note("bfloat16_speedup", None)
        if not self.settings.quick:
            self._ratio("freeze_two_blocks_speedup", seconds["step"], seconds["frozen"])
            self._ratio("one_image_at_a_time_over_step", seconds["parts"], seconds["step"])
        step_seconds = statistics.median(seconds["step"])
        operations = 3 * 2 * _num_multiplications(model.network, batch[keys.IMAGE].shape)
        self._note("step_operations", operations)
        self._note("step_operations_per_second", operations / statistics.median(seconds["bare"]))
        self._note("matmul_operations_per_second", self._matmul_rate())
        self._note("train_cls_images_per_second", self.settings.batch_size / step_seconds)
        return step_seconds

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
            "whole": _accumulate(table, batch, score_maps),
            "merge": self._merge(table, pairs, maps),
            "png": lambda: [png_loop() for _ in range(_TURNS)],
        }
        seconds = self._alternate("accumulation", candidates, repeats=4 * self.repeats)
        seconds = {name: [turns / _TURNS for turns in values] for name, values in seconds.items()}
        self._ratio("accumulation_share", seconds["whole"], [step_seconds] * len(seconds["whole"]))
        # Both merge maps that are ready into what is stored.
        self._ratio("png_loop_over_accumulation", seconds["png"], seconds["merge"])
        # The whole: gate, maximum, the way back to the frame, checks, rounding.
        self._ratio("png_loop_over_whole_accumulation", seconds["png"], seconds["whole"])
        for name, values in seconds.items():
            self._note(f"accumulation_{name}_microseconds", 1e6 * statistics.median(values))
        self._note("bytes_per_cell", table.maximum.dtype.size)
        self._note("table_bytes", table.num_bytes)

    def _merge(self, table: CumulativeAttention, pairs: np.ndarray, maps: np.ndarray) -> Callable[[], None]:
        """The table's update with maps that are ready."""
        rows = np.zeros((len(pairs), table.grid, table.grid), np.uint8)
        for row, (image, label) in zip(rows, pairs, strict=True):
            row[: maps.shape[1], : maps.shape[2]] = np.rint(maps[image, :, :, label] * 255)
        rows = tf.constant(rows.reshape(len(pairs), -1))
        slots = tf.range(len(pairs), dtype=tf.int64)
        return _in_graph(lambda _: table.maximum.scatter_max(tf.IndexedSlices(rows, slots)))

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
            network, _ = _network("attention", CLASSES, 8)
            model = _compiled(AttentionClassifier(network, table, gate="none", accumulate_from_epoch=0))
            steps[str(num_slots)] = _step(model, batch | changed)
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
        ready = tf.zeros((self.settings.batch_size, *(-(-side // STRIDE) * STRIDE for side in content), 3))
        bare = tf.function(lambda images: network(images, training=False))
        seconds = self._alternate(
            "inference", {"bare": lambda: bare(ready), "saved_model": lambda: signature(images=images)}
        )
        self._ratio("saved_model_over_bare", seconds["saved_model"], seconds["bare"])
        self._note("inference_images_per_second", self.settings.batch_size / statistics.median(seconds["saved_model"]))

    def _other_stages(self, records: RecordSet) -> None:
        """Training steps of the integral attention model and the segmentation network beside their bare networks."""
        size, batch_size = self.settings.image_size, self.settings.batch_size
        for name, task in (("train_integral", "attention"), ("train_seg", "segmentation")):
            network, backbone = _network(task, records.classes, self.settings.width)
            if task == "attention":
                batch = _batch(records, ViewOptions(size), batch_size)
                grid = size // STRIDE
                attention = batch[keys.LABELS][:, tf.newaxis, tf.newaxis] * tf.random.uniform(
                    (batch_size, grid, grid, 1)
                )
                batch[keys.ATTENTION] = attention
                model = IntegralAttentionModel(network)
            else:
                views = ViewOptions(size, frame_size=size + size // 4)
                batch = _batch(records, views, batch_size, segmentation_targets(None))
                model = DeepLabLargeFOV(network)
            _compiled(model, backbone)
            seconds = self._alternate(name, {"bare": _bare(model, batch), "step": _step(model, batch)})
            self._ratio(f"{name}_step_over_bare", seconds["step"], seconds["bare"])
            self._note(f"{name}_images_per_second", batch_size / statistics.median(seconds["step"]))

    def _memory(self) -> None:
        """Resident memory after 200 and after 1,200 steps of a narrow network, in a process of its own."""
        code = f"from tools.benchmark import print_memory_growth; print_memory_growth({self.settings.image_size})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        before, after = map(int, done.stdout.split()[-2:])
        self._note("memory_after_200_steps_bytes", before)
        self._note("memory_growth_over_1000_steps_bytes", after - before)

    def _classifier(
        self, records: RecordSet, *, precision: str = "float32", frozen: int = 0, **options
    ) -> AttentionClassifier:
        network, backbone = _network("attention", records.classes, self.settings.width, precision)
        freeze_blocks(backbone, frozen)
        table = CumulativeAttention(records.first_slots, self.settings.image_size // STRIDE)
        options = {"gate": "none", "accumulate_from_epoch": 0} | options
        return _compiled(AttentionClassifier(network, table, **options), backbone)

    def _alternate(
        self, label: str, candidates: dict[str, Callable[[], Any]], repeats: int | None = None
    ) -> dict[str, list[float]]:
        """Seconds of each candidate by round; the first two calls of each warm up and do not count."""
        print(f"{label}: {', '.join(candidates)} ...", flush=True)
        for candidate in candidates.values():
            candidate()
            candidate()
        seconds: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(repeats or self.repeats):
            for name, candidate in candidates.items():
                began = time.perf_counter()
                candidate()
                seconds[name].append(time.perf_counter() - began)
        return seconds

    def _ratio(self, name: str, above: list[float], below: list[float]) -> None:
        ratios = [one / other for one, other in zip(above, below, strict=True)]
        self.results[name] = statistics.median(ratios)
        self._details[name] = {"low": min(ratios), "high": max(ratios), "rounds": len(ratios)}

    def _note(self, name: str, value: float | None) -> None:
        self.results[name] = value


def print_memory_growth(image_size: int, num_steps: tuple[int, int] = (200, 1200)) -> None:
    """Trains a narrow network and prints the resident memory in bytes after each of two numbers of steps."""
    with tempfile.TemporaryDirectory() as folder:
        records = _records("", Path(folder))
        table = CumulativeAttention(records.first_slots, image_size // STRIDE)
        model = _compiled(AttentionClassifier(_network("attention", records.classes, 4)[0], table, gate="none"))
        views = ViewOptions(image_size)
        batches = training_batches(records, views, batch_size=4, seed=0, first_step=0, num_steps=num_steps[1])
        take_step = step_function(model, batches.element_spec)
        for number, batch in enumerate(batches, start=1):
            take_step(batch)
            if number in num_steps:
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                print(pages * resource.getpagesize())


def _records(voc_dir: str, folder: Path) -> RecordSet:
    """Records of the user's images, or of synthetic ones with the sizes of VOC's."""
    if not voc_dir:
        voc_dir = str(folder / "voc")
        _write_images_of_voc_sizes(Path(voc_dir), num_images=300)
    make_records.run(
        make_records.MakeRecordsSettings(voc_dir=voc_dir, split="train", output_dir=str(folder / "records"))
    )
    return RecordSet.open(folder / "records/train.json")


def _write_images_of_voc_sizes(root: Path, num_images: int) -> None:
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    labels = []
    for index in range(num_images):
        demo = draw_demo_image(0, "train", index, 128)
        short = round(500 * _ASPECTS[index % len(_ASPECTS)])
        upright = index * _UPRIGHT_SHARE % 1 < _UPRIGHT_SHARE
        size = (short, 500) if upright else (500, short)
        image = cv2.cvtColor(cv2.resize(demo.image, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(root / "JPEGImages" / f"{index}.jpg"), image)
        mask = cv2.resize(demo.mask, size, interpolation=cv2.INTER_NEAREST)
        write_indexed(root / "SegmentationClass" / f"{index}.png", mask)
        labels.append(" ".join(map(str, (index, *demo.labels))))
    lists = root / "ImageSets/Segmentation"
    (lists / "train.txt").write_text("".join(f"{index}\n" for index in range(num_images)))
    (lists / "train_cls.txt").write_text("\n".join(labels) + "\n")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")


def _batch(records: RecordSet, views: ViewOptions, batch_size: int, targets=None) -> dict[str, tf.Tensor]:
    """The first batch whose canvas is the commonest."""
    canvases = choose_canvases(records.sizes, views.canvas, min_images=batch_size, square=views.square)
    shapes, counts = np.unique(canvases, axis=0, return_counts=True)
    commonest = tuple(shapes[counts.argmax()])
    batches: Iterable[dict[str, tf.Tensor]] = training_batches(
        records, views, batch_size=batch_size, seed=0, first_step=0, num_steps=100, targets=targets
    )
    return next(dict(batch) for batch in batches if tuple(batch[keys.IMAGE].shape[1:3]) == commonest)


def _num_multiplications(network: keras.Model, shape: tf.TensorShape) -> int:
    """Multiplications of a forward pass on images of this shape: cells times kernel, convolution by convolution."""
    batch, height, width, _ = shape
    backbone = network.get_layer("vgg16")
    total = 0
    for layer in [*backbone.layers, *network.layers]:
        if isinstance(layer, keras.layers.Conv2D):
            # Blocks 1 to 3 each end in pooling; everything behind them has the stride of the output.
            stride = 2 ** (int(layer.name[5]) - 1) if layer.name.startswith(("block1", "block2", "block3")) else STRIDE
            total += batch * (height // stride) * (width // stride) * int(np.prod(layer.kernel.shape))
    return total


def _network(
    task: str, classes: tuple[str, ...], width: int, precision: str = "float32"
) -> tuple[keras.Model, keras.Model]:
    keras.utils.set_random_seed(0)
    return NetworkDescription(task, tuple(classes), 0, width).build(initializer="centered_he", precision=precision)


def _compiled(model, backbone: keras.Model | None = None):
    if backbone is None:
        optimizer = keras.optimizers.SGD(1e-4, momentum=0.9)
    else:
        optimizer = paper_optimizer(
            model.network, backbone, 1e-4, momentum=0.9, weight_decay=5e-4, new_layer_multiplier=1.0, clip_norm=10.0
        )
    model.compile(optimizer, jit_compile=False)
    model.optimizer.build(model.network.trainable_variables)
    return model


def _step(model, batch: dict[str, tf.Tensor]) -> Callable[[], dict[str, float]]:
    """A training step as the loop takes it."""
    take_step = step_function(model, _any_canvas(batch))
    return lambda: take_step(batch)


def _any_canvas(batch: dict[str, tf.Tensor]) -> dict[str, tf.TensorSpec]:
    """The spec of batches of any size, as the input pipeline has it."""
    shapes = {name: [None, *value.shape[1:]] for name, value in batch.items()}
    shapes[keys.IMAGE][1:3] = shapes[keys.VALID][1:3] = [None, None]
    if keys.SEGMENTATION in shapes:
        shapes[keys.SEGMENTATION][1:3] = [None, None]
    return {name: tf.TensorSpec(shapes[name], value.dtype) for name, value in batch.items()}


def _bare(model, batch: dict[str, tf.Tensor]) -> Callable[[], Any]:
    """Forward and backward pass of the model's network and loss, and nothing else."""
    variables = model.network.trainable_variables
    has_table = isinstance(model, AttentionClassifier)

    @tf.function(input_signature=[_any_canvas(batch)])
    def forward_and_backward(batch):
        with tf.GradientTape() as tape:
            if has_table:
                scores = class_scores(model.network(batch[keys.IMAGE], training=True), batch[keys.VALID])
                loss = classification_loss(scores, batch[keys.LABELS])
            else:
                loss, _, _ = model.compute_loss_of(batch)
        # One number of each: handing out all of them would cost as much memory as the weights have, and what is not
        # used is not computed.
        gradients = tape.gradient(loss, variables)
        return tf.add_n([tf.reshape(gradient, [-1])[0] for gradient in gradients])

    return lambda: float(forward_and_backward(batch))


def _accumulate(table: CumulativeAttention, batch: dict[str, tf.Tensor], score_maps: tf.Tensor) -> Callable[[], None]:
    """All that a step does for accumulation, from score maps on."""
    valid, labels = batch[keys.VALID], batch[keys.LABELS]

    def accumulate(number: tf.Tensor) -> None:
        # Other maps in each turn: else TensorFlow could see that they are always the same.
        changed = score_maps + tf.cast(number, tf.float32)
        gate = open_gate("none", class_scores(changed, valid), labels)
        attention = class_activation_maps(changed, valid)
        attention, seen = attention_to_frame(attention, valid, batch[keys.FRAME_VALID], batch[keys.VIEW])
        table.update(batch[keys.POSITION], labels, gate, attention, seen)

    return _in_graph(accumulate)


def _in_graph(work: Callable[[tf.Tensor], Any]) -> Callable[[], None]:
    """`_TURNS` turns of the work in one call, so that what is measured is the work inside a graph, as in a step."""

    @tf.function
    def turns() -> None:
        for number in tf.range(_TURNS):
            work(number)

    return turns


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    launch(BenchmarkSettings, run, "benchmark", "measures what training costs, beside the bare network")
