"""Nothing needs what only Unix or Linux has; hiding it is the nearest that CI comes to Windows."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

TESTS = Path(__file__).parent
# Other packages have code of their own for Windows, and choose it by the system's name: they are imported before.
HIDE = """
    import os, pkgutil, signal, sys, warnings
    from pathlib import Path
    import absl.flags, cv2, keras, numpy, tensorboard, tensorflow

    for module in ("fcntl", "grp", "posix", "pwd", "resource", "syslog", "termios"):
        sys.modules[module] = None
    for name in (
        *("pread", "pwrite", "preadv", "sched_getaffinity", "fork", "getuid", "geteuid", "uname", "statvfs", "sysconf"),
        *("getloadavg", "killpg", "getpgid", "setsid", "mkfifo", "posix_fadvise", "O_CLOEXEC", "O_SYNC", "O_NOATIME"),
    ):
        if hasattr(os, name):
            delattr(os, name)
    for name in ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGPIPE", "SIGALRM", "SIGUSR1", "SIGUSR2", "setitimer"):
        if hasattr(signal, name):
            delattr(signal, name)
    # filelock says that it has no fcntl.
    warnings.simplefilter("ignore", UserWarning)
"""


def run_with_unix_hidden(script: str, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, "-c", textwrap.dedent(HIDE) + textwrap.dedent(script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_and_name_is_imported_without_unix() -> None:
    run_with_unix_hidden("""
        import oaa_tf
        for name in oaa_tf.__all__:
            getattr(oaa_tf, name)
        modules = [module.name for module in pkgutil.walk_packages(oaa_tf.__path__, "oaa_tf.")]
        assert {"oaa_tf.models.segmenter", "oaa_tf.predict", "oaa_tf.pipeline"} < set(modules)
        for module in modules:
            __import__(module)
    """)


def test_records_are_written_and_read_and_batched_without_unix(tmp_path: Path) -> None:
    out = run_with_unix_hidden(
        """
        from concurrent.futures import ThreadPoolExecutor
        from tiny_voc import make_tiny_records
        from oaa_tf.data.views.input_pipeline import training_batches
        from oaa_tf.data.views.view import ViewOptions
        from oaa_tf.runs.work_dir import WorkDir
        from oaa_tf.train_cls import TrainClsSettings

        folder = Path(sys.argv[1])
        records = make_tiny_records(folder)
        with ThreadPoolExecutor(4) as pool:
            read = list(pool.map(records.read, [*range(len(records))] * 20))
        assert read == [records.read(position) for position in range(len(records))] * 20
        assert records.record(0).image.shape == (*records.sizes[0], 3)
        batches = training_batches(records, ViewOptions(canvas=32), batch_size=2, seed=0, num_steps=3)
        assert len(list(batches)) == 3
        settings = TrainClsSettings(records=str(records.manifest_path), work_dir=str(folder / "run"))
        with WorkDir.claim(settings, {"records": records.checksum}) as work_dir:
            assert work_dir.finished_metrics() is None
        """,
        str(tmp_path),
    )
    # Without locks it says so and goes on.
    assert f"warning: --work_dir={tmp_path / 'run'}: cannot be locked" in out
