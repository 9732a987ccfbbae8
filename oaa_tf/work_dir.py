"""A stage's work_dir: who may write into it, with which settings, and whether the stage is done."""

import fcntl
import json
from pathlib import Path
from typing import Any, Self

from oaa_tf.data.atomic import atomic_write
from oaa_tf.errors import UserError
from oaa_tf.launch import Settings

METRICS_FILE = "metrics.json"
FLAGS_FILE = "flags.txt"
_LOCK_FILE = ".lock"


class WorkDir:
    """A claimed work_dir; use it as a context manager, so that the claim ends with the block.

        with WorkDir.claim(settings) as work_dir:
            if work_dir.finished_metrics() is None: ...

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, lock: Any) -> None:
        """Use `claim`."""
        self.path = path
        self._lock = lock

    @classmethod
    def claim(cls, settings: Settings) -> Self:
        """Makes the folder `settings.work_dir`, locks it for this process and writes `flags.txt`.

        Raises:
            UserError: It can't be written, another process works in it, or it was begun with other settings.
        """
        path = Path(settings.work_dir)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = open(path / _LOCK_FILE, "w")  # noqa: SIM115 - held until the stage ends
        except OSError as error:
            raise UserError(f"--work_dir={path}: cannot be written ({error.strerror}); choose another folder") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise UserError(f"--work_dir={path}: another process is at work in it; wait or choose another") from None
        work_dir = cls(path, lock)
        try:
            work_dir._check_flags(settings)
            with atomic_write(path / FLAGS_FILE) as file:
                file.write(settings.as_flags().encode())
        except BaseException:
            lock.close()
            raise
        return work_dir

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Gives the folder free."""
        self._lock.close()

    def finished_metrics(self) -> dict[str, Any] | None:
        """The content of `metrics.json`, which a stage writes last; None before."""
        path = self.path / METRICS_FILE
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text())
        except ValueError:
            raise UserError(f"{path}: damaged; delete it and run the stage again") from None

    def _is_begun(self) -> bool:
        """Whether a run has left anything but its flags: one that stopped at a mistyped flag has not."""
        return any(child.name != FLAGS_FILE and not child.name.startswith(".") for child in self.path.iterdir())

    def _check_flags(self, settings: Settings) -> None:
        path = self.path / FLAGS_FILE
        if not path.exists() or not self._is_begun():
            return
        before = _by_name(path.read_text())
        now = _by_name(settings.as_flags())
        # The folder may have been moved, or be named from elsewhere.
        for name in sorted((before.keys() | now.keys()) - settings.free_on_resume() - {"work_dir"}):
            if before.get(name) != now.get(name):
                raise UserError(
                    f"--work_dir={self.path} was begun with {before.get(name, f'no {name}')}, not"
                    f" {now.get(name, f'without {name}')}: use the same settings to resume, or another --work_dir"
                )


def _by_name(text: str) -> dict[str, str]:
    """Lines of a flagfile by the setting's name; `--flip` and `--noflip` have the same name."""
    lines = {}
    for line in text.splitlines():
        name, equals, _ = line.removeprefix("--").partition("=")
        lines[name if equals else name.removeprefix("no")] = line
    return lines
