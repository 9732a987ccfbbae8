"""Measures what training costs compared with the bare network.

    python -m tools.benchmark --quick --output=benchmark.json

Every comparison alternates between its candidates on the same data, and is reported as the median and the range of the
ratios of its rounds: machines differ, and other work on a machine slows both sides down.
"""

import dataclasses
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.runs.json_file import write_json


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
    beside_pytorch: bool = setting(False, help="Also measure stage 1's step beside PyTorch's, if torch is installed.")
    repeats: int = setting(0, help="Rounds per comparison; 0: 9 if quick, else 15.", minimum=0)


def run(settings: BenchmarkSettings) -> dict[str, Any]:
    """Measures, prints a table and writes the JSON file.

    Returns:
        The file's content.

    Raises:
        UserError: The output can't be written or the data can't be used.
    """
    from tools.benchmark_measurements import Benchmark

    if settings.beside_pytorch and not importlib.util.find_spec("torch"):
        raise UserError("needs PyTorch: pip install torch", flag="beside_pytorch")
    if settings.image_size % STRIDE:
        raise UserError(f"expected a multiple of {STRIDE}", flag="image_size", value=settings.image_size)
    output = Path(settings.output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("a"):
            pass
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", flag="output", value=output) from None
    described = settings.as_dict()
    benchmark = Benchmark(**{name: value for name, value in described.items() if name != "output"})
    try:
        with tempfile.TemporaryDirectory() as folder:
            benchmark.measure(Path(folder))
    finally:
        results = benchmark.results | {"settings": described}
        write_json(output, results)
    print(benchmark.table())
    print(f"figures: {output}")
    return results


if __name__ == "__main__":
    launch(BenchmarkSettings, run, "benchmark")
