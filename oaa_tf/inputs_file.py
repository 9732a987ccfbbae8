"""`inputs.json`: checksums of what a stage reads, so that a resumed run cannot mix results of different inputs.

The settings of a run name files and folders; this notices when other data has taken their place.
"""

import json
from pathlib import Path

from oaa_tf.errors import UserError
from oaa_tf.metrics_file import write_json

INPUTS_FILE = "inputs.json"


def claim_inputs(work_dir: Path, inputs: dict[str, str]) -> None:
    """Writes the checksums down in a new work_dir; compares them in one that was begun before.

    Args:
        work_dir: An existing folder.
        inputs: Checksum by the input's name, for example "maps".

    Raises:
        UserError: The work_dir was begun with other inputs; the message names the first one.
    """
    path = work_dir / INPUTS_FILE
    if not path.exists():
        write_json(path, inputs)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        before = {}
    for name, checksum in inputs.items():
        if before.get(name) != checksum:
            raise UserError(
                f"--work_dir={work_dir} was begun with other {name}, which have been replaced since: choose another "
                "--work_dir, or delete this one to begin again"
            )
