"""Makes saliency maps of photos with a network that others trained.

    python -m oaa_tf.make_saliency --model=u2netp --image_dir=photos

Writes `photos/saliency/<name>.png`, where make_records and the pipeline find them: 8-bit grey, bright where something
stands out, upright and as large as the photo. `saliency.json` beside them says which network they are of. The photos
can also be files (`--images`), or those of records (`--records`):

    python -m oaa_tf.make_saliency --model=u2netp --records=records/train.json --output_dir=my_data/saliency
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from oaa_tf.command_line.errors import UserError, first_few, quoted
from oaa_tf.command_line.launch import launch
from oaa_tf.command_line.progress import Progress
from oaa_tf.command_line.settings import Settings, setting
from oaa_tf.data.formats.source import MASK_DIR
from oaa_tf.data.formats.tagged_images import SALIENCY_DIR, list_images
from oaa_tf.data.images.image_files import read_image
from oaa_tf.data.images.image_patterns import find_images, refuse_among_images
from oaa_tf.data.images.palette_png import encode_grey
from oaa_tf.data.images.saliency_files import DESCRIPTION_FILE
from oaa_tf.data.records.record_set import RecordSet
from oaa_tf.runs.atomic import atomic_write
from oaa_tf.runs.file_names import is_plain_name
from oaa_tf.runs.json_file import read_json, write_json
from oaa_tf.runs.output_folder import check_folder, folder_errors
from oaa_tf.runs.parallel import num_cores, results_in_order
from oaa_tf.runs.supervision import supervision_of_labels

if TYPE_CHECKING:
    from oaa_tf.models.saliency_network import Preprocessing, SaliencyNetwork

_MAX_AHEAD = 8

Images = Mapping[str, Callable[[], np.ndarray]]
"""Readers of RGB images, uint8 `[height, width, 3]`, by path of the map below its folder, without suffix."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MakeSaliencySettings(Settings):
    """Which photos, and which network."""

    model: str = setting(
        help="u2netp (5 MB), u2net (176 MB) or isnet (179 MB, slower), which are downloaded once; or an ONNX file."
    )
    image_dir: str = setting("", help="Folder of photos, with all folders below; maps go to <image_dir>/saliency.")
    images: tuple[str, ...] = setting(
        (), help="Or photos as in predict: files, folders or globs, separated by commas; '-' reads them from stdin."
    )
    records: str = setting("", help="Or the manifest of records (<split>.json), to make maps of its photos.")
    output_dir: str = setting("", help="Folder for the maps and saliency.json; needed without image_dir.")
    size: int = setting(
        0, help="With an ONNX file: side of the network's input in pixels; 0 if it takes one size only.", minimum=0
    )
    mean: tuple[float, ...] = setting(
        (0.485, 0.456, 0.406), help="With an ONNX file: mean of red, green and blue, which are in [0, 1]."
    )
    deviation: tuple[float, ...] = setting(
        (0.229, 0.224, 0.225), help="With an ONNX file: their deviation; IS-Net has the mean 0.5 and the deviation 1."
    )
    logits: bool = setting(False, help="With an ONNX file: the network ends without a sigmoid.")

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("image_dir", "images", "records") if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(f"--{name}" for name in given) or "none"
            raise UserError(f"expected one of --image_dir, --images and --records, got {found}")
        if not self.output_dir and not self.image_dir:
            raise UserError(f"expected a folder for the maps, with --{given[0]}", flag="output_dir", value="")
        for name, least, kind in (("mean", -np.inf, ""), ("deviation", 0, "positive ")):
            values = getattr(self, name)
            if len(values) not in (1, 3) or not all(least < value < np.inf for value in values):
                raise UserError(f"expected one {kind}number, or three", flag=name, value=",".join(map(str, values)))
            object.__setattr__(self, name, values * (3 // len(values)))

    @property
    def preprocessing(self) -> Preprocessing:
        """What the flags say of an ONNX file."""
        from oaa_tf.models.saliency_network import Preprocessing

        return Preprocessing(self.size, self.mean, self.deviation, self.logits)

    @property
    def map_folder(self) -> Path:
        """The folder for the maps."""
        return Path(self.output_dir) if self.output_dir else Path(self.image_dir) / SALIENCY_DIR


def run(settings: MakeSaliencySettings) -> dict[str, Any]:
    """Makes the maps that are not there yet; see `write_maps`."""
    from oaa_tf.models.saliency_network import SaliencyNetwork

    images = _images(settings)
    return write_maps(images, settings.map_folder, SaliencyNetwork(settings.model, settings.preprocessing))


def dry_run(settings: MakeSaliencySettings) -> dict[str, Any]:
    """What `run` would do, for `dry_run_text`; raises what it would raise before it begins."""
    return dry_run_maps(_images(settings), settings.map_folder, settings.model, settings.preprocessing)


def dry_run_maps(images: Images, folder: Path, model: str, preprocessing: Preprocessing) -> dict[str, Any]:
    """What `write_maps` would do with a network, which is not downloaded; raises what it would raise at once."""
    from oaa_tf.models.saliency_network import SaliencyNetwork, missing_download, published_preprocessing

    check_folder("--output_dir", folder)
    download = missing_download(model)
    network = model
    if download:
        published_preprocessing(network, preprocessing)
    else:
        description = _description(SaliencyNetwork(model, preprocessing))
        _refuse_other_maps(folder, images, description)
        network = _in_words(description)
    return {
        "network": network,
        "images": len(images),
        "images_left": len(_left(images, folder)),
        "downloads": [download] if download else [],
        "writes": [f"{folder}/<name>.png", str(folder / DESCRIPTION_FILE)],
    }


def write_maps(images: Images, folder: Path, network: SaliencyNetwork) -> dict[str, Any]:
    """Writes `<folder>/<name>.png` for every image that has none, and `saliency.json`.

        write_maps({"dog/1": functools.partial(read_image, "photos/dog/1.jpg")}, Path("maps"), SaliencyNetwork("u2net"))

    Args:
        images: The images.
        folder: The folder, made if missing. One with maps must be of the same network.
        network: Makes the maps.

    Returns:
        The content of `saliency.json`: "network", its "sha256", "size", "mean", "deviation" and "logits", the
        "supervision" of labels that are made with the maps; and "output_dir", the numbers of maps "made" and "kept",
        and "skipped", the reason by name.

    Raises:
        UserError: The folder has maps of another network or of an unknown one, or it can't be written, or some images
            could not be read (the others have their maps).
    """
    from oaa_tf.models.saliency_network import enlarge

    description = _description(network)
    _refuse_other_maps(folder, images, description)
    left = _left(images, folder)
    with folder_errors("--output_dir", folder):
        for parent in {(folder / name).parent for name in images}:
            parent.mkdir(parents=True, exist_ok=True)
    if not (folder / DESCRIPTION_FILE).exists():
        write_json(folder / DESCRIPTION_FILE, description)
    print(f"network: {_in_words(description)}")
    skipped: dict[str, str] = {}

    def prepare(name: str) -> tuple[str, tuple[int, int], np.ndarray] | None:
        try:
            image = images[name]()
        except UserError as error:
            skipped[name] = str(error)
            return None
        height, width, _ = image.shape
        return name, (height, width), network.prepare(image)

    def find_all() -> Iterator[tuple[str, tuple[int, int], np.ndarray]]:
        for name, size, prepared in filter(None, results_in_order(readers, prepare, left, max_ahead=_MAX_AHEAD)):
            try:
                yield name, size, network.find(prepared)
            except UserError as error:
                skipped[name] = f"{name}: {error}"

    def write(job: tuple[str, tuple[int, int], np.ndarray]) -> None:
        name, (height, width), saliency = job
        with atomic_write(folder / f"{name}.png") as file:
            file.write(encode_grey(enlarge(saliency, height, width)))

    # While the network works on one image, threads decode the next ones and write the maps of earlier ones.
    with (
        Progress(len(images), "saliency", done=len(images) - len(left)) as progress,
        ThreadPoolExecutor(num_cores()) as readers,
        ThreadPoolExecutor(1) as writers,
    ):
        made = 0
        for _ in results_in_order(writers, write, find_all(), max_ahead=_MAX_AHEAD):
            made += 1
            progress.advance()
    result = description | {
        "output_dir": str(folder),
        "made": made,
        "kept": len(images) - len(left),
        "skipped": skipped,
    }
    print(f"{folder}: {made} maps made, {result['kept']} were there")
    if skipped:
        reasons = first_few(list(skipped.values()))
        raise UserError(f"{len(skipped)} of {len(images)} images were skipped: {reasons}", result=result)
    return result


def _images(settings: MakeSaliencySettings) -> Images:
    """The images that the flags name.

    Raises:
        UserError: There is none, two have the same name, or the maps would lie among them.
    """
    if settings.records:
        records = RecordSet.open(settings.records)
        return {
            _name_in_records(records, position): functools.partial(_image_of_record, records, position)
            for position in range(len(records))
        }
    if settings.images:
        paths, flag = find_images(settings.images), "images"
    else:
        folder, flag = Path(settings.image_dir), "image_dir"
        listing = list_images(folder, skip=[folder / SALIENCY_DIR, folder / MASK_DIR, settings.map_folder])
        listing.tell_other_files()
        paths = {path.relative_to(folder).with_suffix("").as_posix(): path for path in listing.paths()}
    refuse_among_images(settings.map_folder, paths, flag)
    return {name: functools.partial(read_image, path) for name, path in paths.items()}


def _name_in_records(records: RecordSet, position: int) -> str:
    """Where `make_records` looks for the map of a photo."""
    path = PurePosixPath(records.files[position] or f"{records.image_ids[position]}.png").with_suffix("")
    # A program other than make_records can have written them.
    if not all(map(is_plain_name, path.parts)):
        raise UserError(f"{records.manifest_path}: {quoted(str(path))} is no name of a photo; run make_records again")
    return str(path)


def _image_of_record(records: RecordSet, position: int) -> np.ndarray:
    return records.record(position).image


def _description(network: SaliencyNetwork) -> dict[str, Any]:
    """The content of `saliency.json`."""
    return network.description | {"supervision": supervision_of_labels("image labels", use_saliency=True)}


def _in_words(description: Mapping[str, Any]) -> str:
    """Name and preprocessing of a network."""
    height, width = description["size"]
    mean, deviation = (" ".join(f"{each:g}" for each in description[name]) for name in ("mean", "deviation"))
    ending = ", logits" if description["logits"] else ""
    return f"{description['network']}, {width}x{height} pixels, mean {mean}, deviation {deviation}{ending}"


def _left(images: Images, folder: Path) -> list[str]:
    """The images without a map."""
    return [name for name in images if not (folder / f"{name}.png").exists()]


def _refuse_other_maps(folder: Path, images: Images, description: Mapping[str, Any]) -> None:
    """Refuses to mix the maps of two networks.

    Raises:
        UserError: The folder has maps of another network, or of one that is not known.
    """
    try:
        found = read_json(folder / DESCRIPTION_FILE)
    except (FileNotFoundError, NotADirectoryError):
        if len(_left(images, folder)) < len(images):
            raise UserError(
                f"has maps, but no {DESCRIPTION_FILE} that says of which network; choose another folder, or move the"
                " maps away",
                flag="output_dir",
                value=folder,
            ) from None
        return
    except (OSError, ValueError):
        raise UserError(f"{folder / DESCRIPTION_FILE}: damaged; delete the folder, or choose another") from None
    # A file may have another name now.
    differing = [name for name, value in description.items() if name != "network" and found.get(name) != value]
    if differing:
        raise UserError(
            f"has maps of {found.get('network')}, which differs in {', '.join(differing)}; choose another folder, or"
            " delete that one",
            flag="output_dir",
            value=folder,
        )


if __name__ == "__main__":
    launch(MakeSaliencySettings, run, "make_saliency", dry_run)
