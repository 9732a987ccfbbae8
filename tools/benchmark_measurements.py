"""What `tools.benchmark` measures: training steps, and what they are made of, beside each other."""

import dataclasses
import functools
import importlib.util
import os
import statistics
import subprocess
import sys
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
from oaa_tf.data.records import keys
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.data.views.canvases import choose_canvases, padding_share, whole_cells
from oaa_tf.data.views.frame import STRIDE, Frame
from oaa_tf.data.views.input_pipeline import training_batches
from oaa_tf.data.views.targets import segmentation_targets
from oaa_tf.data.views.view_options import ViewOptions
from oaa_tf.demo.objects import CLASSES
from oaa_tf.models.backbones import freeze_blocks
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.models.convolution import Convolution
from oaa_tf.models.integral import IntegralAttentionModel
from oaa_tf.models.largefov import DeepLabLargeFOV
from oaa_tf.models.networks import NetworkDescription
from oaa_tf.models.segmenter import Segmenter
from oaa_tf.models.signatures import load_signatures
from oaa_tf.models.trained_network import TrainedNetwork
from oaa_tf.runs.metrics_file import versions
from oaa_tf.training.checkpoint import TrainingCheckpoint
from oaa_tf.training.devices import check_precision
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
from tools.benchmark_pytorch import PRECISIONS as PYTORCH_PRECISIONS
from tools.benchmark_pytorch import pytorch_process
from tools.memory_use import in_a_process_of_its_own, peak_memory
from tools.step_profile import step_profile

_CALLS = 10
_STEPS, _PHOTOS = 100, 200
"""Steps of train_cls, and photos of predict, as whole commands."""
_ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(kw_only=True)
class Benchmark:
    """The measurements of one run.

    Attributes:
        quick: Whether to take the main ratios only.
        voc_dir: See `benchmark_records`.
        image_size: Long side of training images in pixels.
        batch_size: Images per step.
        width: Channels of VGG16's first block.
        beside_pytorch: Whether to measure PyTorch's step, too.
        repeats: Rounds per comparison; 0 for the usual number.
        results: By name: numbers, for ratios the median; `details` has the ranges.
    """

    quick: bool
    voc_dir: str
    image_size: int
    batch_size: int
    width: int
    beside_pytorch: bool
    repeats: int
    results: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Nothing is measured yet."""
        # TensorFlow takes the steps of different models for one function that is traced again and again.
        tf.get_logger().setLevel("ERROR")
        self.repeats = self.repeats or (9 if self.quick else 15)
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
        records = benchmark_records(self.voc_dir, folder)
        canvases = choose_canvases(records.sizes, self.image_size, min_images=self.batch_size)
        squares = choose_canvases(records.sizes, self.image_size, square=True)
        self._note("padding_share", padding_share(records.sizes, canvases))
        self._note("padding_share_square", padding_share(records.sizes, squares))
        batch = commonest_batch(records, ViewOptions(self.image_size), self.batch_size)
        step_seconds = self._steps(records, batch)
        self._variants(records, batch)
        if self.beside_pytorch:
            self._beside_pytorch(records, batch)
        self._accumulation(records, batch, step_seconds, folder)
        self._input_pipeline(records, step_seconds)
        self._slots(batch)
        self._inference(records, folder)
        self._wide_dilation()
        if not self.quick:
            self._other_stages(records)
            self._commands(records, step_seconds, folder)
            self._memory()
        self._note("seconds", time.perf_counter() - began)
        self.results["details"] = self._details
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
        self._note("train_cls_images_per_second", self.batch_size / step_seconds)
        if not self.quick:
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
        if not self.quick:
            options |= {
                "frozen": {"frozen": 2},
                "recomputed": {"recompute": True},
                "parts": {"accumulate_steps": self.batch_size},
            }
        candidates = {
            name: training_step(self._classifier(records, **chosen), batch) for name, chosen in options.items()
        }
        seconds = self._alternate("options", candidates)
        if "bfloat16" in seconds:
            self._ratio("bfloat16_speedup", seconds["step"], seconds["bfloat16"])
        else:
            self._note("bfloat16_speedup", None)
        if not self.quick:
            self._ratio("freeze_two_blocks_speedup", seconds["step"], seconds["frozen"])
            self._ratio("recompute_over_step", seconds["recomputed"], seconds["step"])
            self._ratio("one_image_at_a_time_over_step", seconds["parts"], seconds["step"])

    def _beside_pytorch(self, records: RecordSet, batch: dict[str, tf.Tensor]) -> None:
        """Stage 1's step, with accumulation, beside PyTorch's training step of the same network without it."""
        with pytorch_process(batch[keys.IMAGE].numpy(), batch[keys.LABELS].numpy(), self.width) as steps:
            for precision in PYTORCH_PRECISIONS if self._has_bfloat16 else ("float32",):
                ours = training_step(self._classifier(records, precision=precision), batch)
                theirs = {name: step for name, step in steps.items() if name.startswith(precision)}
                seconds = self._alternate(f"PyTorch, {precision}", {"ours": ours} | theirs)
                best = min(theirs, key=lambda name: statistics.median(seconds[name]))
                self._ratio(f"{precision}_speed_over_pytorch", seconds[best], seconds["ours"])
                for name, values in seconds.items():
                    label = f"{precision}_beside_pytorch" if name == "ours" else f"pytorch_{name}"
                    self._note(f"{label}_images_per_second", self.batch_size / statistics.median(values))

    def _matmul_rate(self) -> float:
        """What the cores do at best: floating-point operations per second of a large float32 product."""
        side = 2048
        matrix = tf.random.normal((side, side))
        multiply = tf.function(lambda: tf.reduce_sum(matrix @ matrix))
        seconds = self._alternate("matrix product", {"matmul": lambda: float(multiply())})["matmul"]
        return 2 * side**3 / min(seconds)

    def _accumulation(self, records: RecordSet, batch: dict[str, tf.Tensor], step_seconds: float, folder: Path) -> None:
        """What accumulation adds to a step, beside reading, merging and writing a PNG per image and class."""
        grid = self.image_size // STRIDE
        table = CumulativeAttention(records.first_slots, grid)
        rows, columns = (side // STRIDE for side in batch[keys.IMAGE].shape[1:3])
        score_maps = tf.constant(
            np.random.default_rng(0).normal(size=(self.batch_size, rows, columns, len(records.classes))),
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
        candidates = {name: functools.partial(_call_often, call) for name, call in candidates.items()}
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

    def _input_pipeline(self, records: RecordSet, step_seconds: float) -> None:
        """Images per second of the input pipeline alone, beside what training consumes."""
        num_batches = (50 if self.quick else 400) // self.batch_size
        rates = []
        for _ in range(3):
            batches = iter(
                training_batches(
                    records,
                    ViewOptions(self.image_size),
                    batch_size=self.batch_size,
                    seed=0,
                    first_step=0,
                    num_steps=num_batches,
                )
            )
            next(batches)
            began = time.perf_counter()
            num_read = sum(1 for _ in batches)
            rates.append(num_read * self.batch_size / (time.perf_counter() - began))
        consumed = self.batch_size / step_seconds
        self._ratio("pipeline_over_training", rates, [consumed] * len(rates))
        self._note("pipeline_images_per_second_per_core", statistics.median(rates) / (os.cpu_count() or 1))

    def _slots(self, batch: dict[str, tf.Tensor]) -> None:
        """Whole training steps of a narrow network with tables for data sets of different sizes."""
        sizes = {"1k": 1_000, "10k": 10_000, "100k": 100_000, "1m": 1_000_000}
        if self.quick:
            del sizes["10k"], sizes["100k"]
        grid = self.image_size // STRIDE
        generator = np.random.default_rng(0)
        steps = {}
        for name, num_slots in sizes.items():
            # One label per image; the images of a batch lie anywhere in the table.
            table = CumulativeAttention(np.arange(num_slots + 1), grid)
            labels = tf.one_hot(generator.integers(0, len(CLASSES), self.batch_size), len(CLASSES))
            positions = generator.integers(0, num_slots, self.batch_size)
            changed = {keys.LABELS: labels, keys.POSITION: tf.constant(positions, tf.int64)}
            network, backbone = build_network("attention", CLASSES, 8)
            model = compiled(AttentionClassifier(network, table, gate="none", accumulate_from_epoch=0), backbone)
            steps[name] = training_step(model, batch | changed)
        seconds = self._alternate("slots", steps, repeats=4 * self.repeats)
        for name in [name for name in sizes if name != "1k"]:
            self._ratio(f"slots_{name}_over_1k_step", seconds[name], seconds["1k"])

    def _inference(self, records: RecordSet, folder: Path) -> None:
        """The exported model, from uint8 pixels to full-size maps, beside its network on a canvas that is ready."""
        model = self._classifier(records)
        exported = self._exported(model, "attention", records, folder / "attention")
        signature = tf.saved_model.load(str(exported)).signatures["attention"]
        image = records.record(0).image
        images = tf.constant(np.stack([image] * self.batch_size))
        height, width, _ = image.shape
        content = Frame(height, width, self.image_size).content
        ready = tf.zeros((self.batch_size, *map(whole_cells, content), 3))
        bare = tf.function(lambda images: model.network(images, training=False))
        seconds = self._alternate(
            "inference", {"bare": lambda: bare(ready), "saved_model": lambda: signature(images=images)}
        )
        self._ratio("saved_model_over_bare", seconds["saved_model"], seconds["bare"])
        self._note("inference_images_per_second", self.batch_size / statistics.median(seconds["saved_model"]))
        if not self.quick and all(map(importlib.util.find_spec, ("tf2onnx", "onnxruntime"))):
            runtimes = {"saved_model": exported}
            int8: dict[str, Any] = {"precision": "int8", "records": str(records.manifest_path)}
            for name, options in (("float32", dict[str, Any]()), ("int8", int8)):
                runtimes[name] = folder / f"attention_{name}"
                export.run(
                    export.ExportSettings(
                        stage_dir=str(folder / "attention"), output_dir=str(runtimes[name]), format="onnx", **options
                    )
                )
            functions = {name: load_signatures(path)["attention"] for name, path in runtimes.items()}
            seconds = self._alternate(
                "ONNX",
                {name: functools.partial(function, image[np.newaxis]) for name, function in functions.items()},
            )
            self._ratio("onnx_int8_speedup", seconds["float32"], seconds["int8"])
            self._ratio("onnx_int8_speed_over_saved_model", seconds["saved_model"], seconds["int8"])

    def _wide_dilation(self) -> None:
        """fc6, forward and backward, beside TensorFlow's dilated convolution."""
        inputs, outputs = 8 * self.width, 16 * self.width
        columns = self.image_size // STRIDE
        cases = {"": ((3 * columns // 4, columns), "float32")}
        if not self.quick:
            cases["_41x41_cells"] = ((41, 41), "float32")
            if self._has_bfloat16:
                cases["_bfloat16"] = (cases[""][0], "mixed_bfloat16")
        for name, (cells, dtype) in cases.items():
            features = tf.random.normal((self.batch_size, *cells, inputs))
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
        size, batch_size = self.image_size, self.batch_size
        for name, task in (("train_integral", "attention"), ("train_seg", "segmentation")):
            network, backbone = build_network(task, records.classes, self.width)
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

    def _commands(self, records: RecordSet, step_seconds: float, folder: Path) -> None:
        """Whole commands from start to exit: train_cls beside its steps, predict beside its network."""
        seconds = _seconds_of_command(
            "train_cls",
            f"--records={records.manifest_path}",
            f"--work_dir={folder / 'train_cls'}",
            f"--image_size={self.image_size}",
            f"--batch_size={self.batch_size}",
            f"--width={self.width}",
            f"--num_steps={_STEPS}",
            "--backbone_weights=none",
            "--precision=float32",
        )
        self._note("train_cls_start_to_exit_over_steps", seconds / (_STEPS * step_seconds))
        network, backbone = build_network("segmentation", records.classes, self.width)
        model = compiled(DeepLabLargeFOV(network), backbone)
        exported = self._exported(model, "segmentation", records, folder / "segmentation")
        images = [records.record(position).image for position in range(min(_PHOTOS, len(records)))]
        photos = {name: folder / "photos" / name for name in ("one", "all")}
        for path in photos.values():
            path.mkdir(parents=True)
        for number, image in enumerate(images):
            for path in photos.values() if number == 0 else (photos["all"],):
                cv2.imwrite(str(path / f"{number}.jpg"), image[..., ::-1])
        segmenter = Segmenter(exported)
        runs: dict[str, Callable[[], Any]] = {"network": lambda: [segmenter(image) for image in images]}
        for name, path in photos.items():
            runs[name] = functools.partial(
                _seconds_of_command, "predict", f"--model={exported}", f"--images={path}", f"--output_dir={path}_masks"
            )
        seconds_of = self._alternate("predict", runs, repeats=min(self.repeats, 3), num_warm_up=1)
        per_photo = [(many - one) / (len(images) - 1) for one, many in zip(*map(seconds_of.get, photos), strict=True)]
        self._ratio("predict_over_network", per_photo, [value / len(images) for value in seconds_of["network"]])
        self._note("predict_one_photo_seconds", statistics.median(seconds_of["one"]))

    def _exported(self, model: TrainedNetwork, task: str, records: RecordSet, folder: Path) -> Path:
        """The SavedModel of a model."""
        folder.mkdir()
        NetworkDescription(task, records.classes, self.image_size, self.width).write(folder)
        TrainingCheckpoint(model, folder).save(0)
        export.run(export.ExportSettings(stage_dir=str(folder), output_dir=str(folder / "model")))
        return folder / "model"

    def _memory(self) -> None:
        """What training the segmentation network on crops of the paper's size takes, with and without saving memory."""
        for name, options in (
            ("segmentation", {}),
            ("segmentation_recompute", {"recompute": True}),
            ("segmentation_one_image_at_a_time", {"accumulate_steps": self.batch_size}),
        ):
            peak = in_a_process_of_its_own(peak_memory, self.width, self.batch_size, **options)
            self._note(f"{name}_peak_memory_bytes", peak)

    def _classifier(
        self,
        records: RecordSet,
        *,
        precision: str = "float32",
        recompute: bool = False,
        frozen: int = 0,
        accumulate_from_epoch: int = 0,
        accumulate_steps: int = 1,
    ) -> AttentionClassifier:
        network, backbone = build_network(
            "attention", records.classes, self.width, precision=precision, recompute=recompute
        )
        freeze_blocks(backbone, frozen)
        table = CumulativeAttention(records.first_slots, self.image_size // STRIDE)
        model = AttentionClassifier(
            network,
            table,
            gate="none",
            accumulate_from_epoch=accumulate_from_epoch,
            accumulate_steps=accumulate_steps,
        )
        return compiled(model, backbone)

    def _alternate(
        self, label: str, candidates: dict[str, Callable[[], Any]], repeats: int | None = None, num_warm_up: int = 2
    ) -> dict[str, list[float]]:
        """Seconds of each candidate by round; the first calls of each warm up and do not count.

        Every other round goes backwards, so that what drifts over a round is no advantage to any of them.
        """
        print(f"{label}: {', '.join(candidates)} ...", flush=True)
        for candidate in candidates.values():
            for _ in range(num_warm_up):
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


def _seconds_of_command(command: str, *arguments: str) -> float:
    """What a command takes from its start to its exit."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", f"oaa_tf.{command}", *arguments], cwd=_ROOT, stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - began


def _call_often(call: Callable[[], Any]) -> None:
    for _ in range(_CALLS):
        call()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
