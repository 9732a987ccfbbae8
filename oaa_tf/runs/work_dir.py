"""A stage's work_dir: its lock, the settings and inputs it was begun with, and whether the stage is done."""

import contextlib
import hashlib
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Self

from filelock import lock_descriptor

from oaa_tf.command_line.dry_run import DONE, TO_DO
from oaa_tf.command_line.errors import UserError
from oaa_tf.command_line.settings import Settings, name_and_value
from oaa_tf.runs.atomic import atomic_write, remove_temporary_files
from oaa_tf.runs.json_file import read_json, write_json
from oaa_tf.runs.output_folder import check_folder, folder_errors

METRICS_FILE = "metrics.json"
FLAGS_FILE = "flags.txt"
HISTORY_FOLDER = "attention_history"
INPUTS_FILE = "inputs.json"
PREDICTIONS_FOLDER = "predictions"
"""Where `oaa_tf.evaluate` leaves a model's masks."""
NETWORK_FILE = "network.json"
_LOCK_FILE = ".lock"
_LOCK_TRIES, _SECONDS_BETWEEN_TRIES = 10, 0.02
_BEFORE_RESULTS = (NETWORK_FILE, HISTORY_FOLDER, "tensorboard")
"""Files that a training writes before its first checkpoint."""


class WorkDir:
    """A claimed work_dir; use it as a context manager, so that the claim ends with the block.

        with WorkDir.claim(settings) as work_dir:
            if work_dir.finished_metrics() is None: ...

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        """Claims nothing; use `claim`."""
        self.path = path
        self._claim = contextlib.ExitStack()

    @classmethod
    def claim(cls, settings: Settings, inputs: Mapping[str, str] | None = None) -> Self:
        """Makes the folder `settings.work_dir`, locks it for this process, and writes the settings and inputs into it.

        A folder that holds results must have been begun with the same settings and inputs. A folder without results may
        be begun again with others, such as a smaller batch after the first try ran out of memory; the files of a
        training that stopped before its first checkpoint are removed.

        Args:
            settings: The stage's settings, written to `flags.txt`. Settings made with `may_change` may differ.
            inputs: Checksums of the stage's input data by name, written to `inputs.json`, since the files that the
                settings name may have been replaced. None for a command that only runs others.

        Raises:
            UserError: The folder can't be written, another process works in it, or it holds another run's results.
        """
        path = Path(settings.as_dict()["work_dir"])
        work_dir = cls(path)
        with contextlib.ExitStack() as claim:
            with folder_errors("--work_dir", path):
                path.mkdir(parents=True, exist_ok=True)
                lock = claim.enter_context(open(path / _LOCK_FILE, "a"))
            _lock(lock, path)
            if inputs is not None and work_dir._has_results():
                work_dir._check_same_run(settings, inputs)
                remove_temporary_files(path)
            elif inputs is not None:
                work_dir._begin_again()
            with atomic_write(path / FLAGS_FILE) as file:
                file.write(settings.as_flags().encode())
            if inputs is not None:
                write_json(path / INPUTS_FILE, dict(inputs))
            work_dir._claim = claim.pop_all()
        return work_dir

    @classmethod
    def peek(cls, settings: Settings, inputs: Mapping[str, str] | None = None) -> Self:
        """Checks what `claim` checks, but leaves no trace: makes no folder, writes nothing and keeps no lock.

        Args:
            settings: The stage's settings.
            inputs: See `claim`. With none of them, only the settings are compared.

        Raises:
            UserError: See `claim`.
        """
        work_dir = cls(Path(settings.as_dict()["work_dir"]))
        path = work_dir.path
        check_folder("--work_dir", path)
        if (path / _LOCK_FILE).exists():
            # Network file systems lock only what is open for writing.
            with folder_errors("--work_dir", path), open(path / _LOCK_FILE, "r+") as lock:
                _lock(lock, path)
        if inputs is not None and work_dir._has_results():
            work_dir._check_same_run(settings, inputs)
        return work_dir

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Releases the folder."""
        self._claim.close()

    def finished_metrics(self) -> dict[str, Any] | None:
        """The content of `metrics.json`, which a stage writes last; None before."""
        path = self.path / METRICS_FILE
        if not path.exists():
            return None
        try:
            return read_json(path)
        except (OSError, ValueError):
            raise UserError(f"{path}: damaged; delete it and run the stage again") from None

    @property
    def state(self) -> str:
        """`DONE` if the stage is finished here, else `TO_DO`."""
        return TO_DO if self.finished_metrics() is None else DONE

    def _begin_again(self) -> None:
        for path in (self.path / name for name in _BEFORE_RESULTS):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _has_results(self) -> bool:
        own = {FLAGS_FILE}
        if (self.path / INPUTS_FILE).exists():
            own |= {INPUTS_FILE, *_BEFORE_RESULTS}
        # Hidden files are the lock, the rest of an interrupted write, or made by a file manager.
        children = self.path.iterdir() if self.path.exists() else ()
        return any(child.name not in own and child.name[0] != "." for child in children)

    def _check_same_run(self, settings: Settings, inputs: Mapping[str, str]) -> None:
        # A setting that is newer than the run has its default.
        before = _by_name(settings.defaults_as_flags()) | _by_name(self._read(FLAGS_FILE))
        now = _by_name(settings.as_flags())
        inputs_before = self._inputs_before()
        known = inputs.keys() | inputs_before.keys()
        # Paths of the folder and its inputs may differ: they may have been moved. Their content is compared.
        for name in sorted((before.keys() | now.keys()) - settings.free_on_resume() - known - {"work_dir"}):
            if before.get(name) != now.get(name):
                old, new = before.get(name) or f"no --{name}", now.get(name) or f"without --{name}"
                raise UserError(
                    f"--work_dir={self.path} was begun with {old[:120]}, not {new[:120]}: use the same settings to"
                    " resume, or another --work_dir"
                )
        for name, checksum in inputs.items():
            if inputs_before.get(name) != checksum:
                raise UserError(
                    f"--work_dir={self.path} was begun with other {name}, which have been replaced since: choose"
                    " another --work_dir, or delete this one to begin again"
                )

    def _inputs_before(self) -> dict[str, str]:
        self._read(INPUTS_FILE)
        try:
            return read_json(self.path / INPUTS_FILE)
        except ValueError:
            return {}

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            raise UserError(
                f"--work_dir={self.path} holds files, but no {name} of an earlier run: choose a new or empty folder"
            ) from None


def _lock(lock: IO[str], path: Path) -> None:
    """Locks an open file until it is closed, at the latest when the process ends."""
    try:
        # A dry run elsewhere holds the lock for a moment; a process at work holds it for longer than all tries.
        for _ in range(_LOCK_TRIES):
            if lock_descriptor(lock.fileno(), blocking=False):
                return
            time.sleep(_SECONDS_BETWEEN_TRIES)
    except OSError as error:
        # Some network file systems have no locks, and there may be no other place for results.
        print(f"warning: --work_dir={path}: cannot be locked ({error.strerror}); run one process in it at a time")
        return
    raise UserError("another process is at work in it; wait or choose another", flag="work_dir", value=path)


def _by_name(text: str) -> dict[str, str]:
    """Lines of a flagfile by the setting's name; `--flip` and `--noflip` have the same name."""
    return {name_and_value(line)[0]: line for line in text.splitlines()}


def files_checksum(paths: Iterable[Path]) -> str:
    """SHA-256 (hex) over the names and contents of files, for the inputs of a `claim`."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
