"""Training stages on tiny demo data, each a process of its own: what `tools.kill_test` and `tools.soak_test` run."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from oaa_tf.command_line.errors import UserError
from oaa_tf.demo.data_set import write_demo_data
from oaa_tf.make_records import MakeRecordsSettings
from oaa_tf.make_records import run as make_records
from oaa_tf.runs.checkpoints import CHECKPOINT_FOLDER, newest_step

TINY = ("--backbone_weights=none", "--initializer=he", "--new_layer_multiplier=1", "--clip_norm=10")
"""Settings with which a narrow network learns something from scratch."""

_ROOT = Path(__file__).parents[1]
_PATIENCE = 600.0


@contextlib.contextmanager
def new_folder(name: str) -> Iterator[Path]:
    """A folder for runs, `--work_dir`, which stays; or, if the name is empty, a temporary one.

    Raises:
        UserError: It is there already, or can't be made.
    """
    if not name:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    folder = Path(name).absolute()
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"cannot be made ({error.strerror}); choose a new folder", flag="work_dir", value=name
        ) from None
    yield folder


def demo_records(folder: Path, *, num_images: int, image_size: int) -> Path:
    """Makes records of demo data below a folder and returns their manifest."""
    write_demo_data(folder / "demo_data", num_train=num_images, num_val=1, image_size=image_size)
    settings = MakeRecordsSettings(voc_dir=str(folder / "demo_data"), output_dir=str(folder / "records"))
    return Path(make_records(settings)["manifest"])


class StageProcess:
    """A running training stage, its output in `<work_dir>.log`, or `<work_dir>.<log>.log`.

    Attributes:
        work_dir: The stage's folder.
        process: The process.
        first_step: Step of the newest checkpoint when the process began; 0 if there was none.
    """

    def __init__(
        self,
        stage: str,
        work_dir: Path,
        arguments: tuple[str, ...],
        *,
        program: tuple[str, ...] = (),
        log: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts `python -m oaa_tf.<stage> --work_dir=<work_dir> <arguments>`.

        Args:
            stage: Name of the stage.
            work_dir: Its folder.
            arguments: Its other settings.
            program: What comes between `python` and the settings, if not `-m oaa_tf.<stage>`.
            log: Part of the name of the file with its output, where several processes share a folder.
            environment: Further environment variables.
        """
        self.work_dir = work_dir
        self.first_step = self.newest_step
        self._stage = stage
        self._log = Path(f"{work_dir}.{log}.log" if log else f"{work_dir}.log")
        with self._log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, *(program or ("-m", f"oaa_tf.{stage}")), f"--work_dir={work_dir}", *arguments],
                cwd=_ROOT,
                env={**os.environ, **(environment or {})},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def newest_step(self) -> int:
        """Step of the newest checkpoint; 0 if there is none."""
        return newest_step(self.work_dir)

    @property
    def is_writing_a_checkpoint(self) -> bool:
        """Whether a checkpoint is being written or, of a process that was killed, was."""
        from oaa_tf.training.checkpoint import PARTIAL_FOLDER

        return (self.work_dir / CHECKPOINT_FOLDER / PARTIAL_FOLDER).exists()

    def wait_until(self, condition: Callable[[], bool], *, pause: float = 0.01) -> None:
        """Returns as soon as the condition holds.

        Args:
            condition: Is called again and again.
            pause: Seconds between two calls.

        Raises:
            UserError: The process ends before, or writes no checkpoint for ten minutes; then it is killed.
        """
        with self._killed_on_error():
            step, since = self.newest_step, time.monotonic()
            while not condition():
                # Its end may be what the condition waits for.
                if self.process.poll() is not None and not condition():
                    raise UserError(f"{self._stage} ended too early, {self._ending()}")
                if self.newest_step != step:
                    step, since = self.newest_step, time.monotonic()
                if time.monotonic() > since + _PATIENCE:
                    raise UserError(f"{self._stage} has hung for {_PATIENCE:.0f} seconds; see {self._log}")
                time.sleep(pause)

    def kill(self) -> None:
        """Kills the process with SIGKILL and waits until it is gone."""
        self.process.kill()
        self.process.wait()

    def wait(self) -> None:
        """Waits for the process's end.

        Raises:
            UserError: It writes no checkpoint for ten minutes; then it is killed.
        """
        self.wait_until(lambda: self.process.poll() is not None)

    def finish(self) -> None:
        """Waits for the process's end.

        Raises:
            UserError: It fails, or see `wait`.
        """
        self.wait()
        if self.process.returncode != 0:
            raise UserError(f"{self._stage} failed, {self._ending()}")

    @contextlib.contextmanager
    def _killed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # Ctrl-C too: nothing goes on by itself.
            self.kill()
            raise

    @property
    def last_line(self) -> str:
        """The last line of its output."""
        return (self._log.read_text(errors="replace").strip().splitlines() or ["without a word"])[-1]

    def _ending(self) -> str:
        return f"with exit code {self.process.returncode}: {self.last_line}"
