"""Data and results in a bucket: a command works on a copy on this machine's disk, and sends back what changes.

A flag whose value is `gs://bucket/folder` names such a place. Everything goes through `tf.io.gfile`, which also knows
`ram://`, for tests. The copies stay in the cache, and only what is newer in the bucket is copied again.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from oaa_tf.command_line.boundary import import_tensorflow_quietly
from oaa_tf.command_line.errors import UserError, first_line
from oaa_tf.command_line.progress import Progress

_URL = re.compile(r"(gs|ram)://\w[^*?\[]*")
_TRANSFERS = 16
"""Files that travel at the same time."""

_COMPLETING = (".index", ".json")
"""What is written last, and says that the rest is there: of a checkpoint, of records and of a finished stage."""

_copies: list[_Copy] = []


def cache_folder() -> Path:
    """Where files from elsewhere are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oaa_tf"


@contextlib.contextmanager
def local_copies(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The values of the flags that name a bucket, with the paths of copies; at its end, sends back what changed there.

    Args:
        values: The value of each flag: text, or a list of texts, or something else.

    Raises:
        UserError: A bucket can't be read or written, or other machines work on the same, which don't see the copies.
    """
    found = {name: value for name, value in values.items() if any(map(_URL.fullmatch, _texts(value)))}
    if found:
        scheduler = str(values.get("scheduler", ""))
        if os.environ.get("TF_CONFIG") or (scheduler and not scheduler.startswith("local:")):
            raise UserError("several machines need one folder for all; mount the bucket on them", flag=min(found))
        import_tensorflow_quietly()
    copied = {}
    try:
        for name, value in found.items():
            paths = [_local(text, name) if _URL.fullmatch(text) else text for text in _texts(value)]
            copied[name] = paths if isinstance(value, list) else paths[0]
        yield copied
    finally:
        copies = _copies.copy()
        _copies.clear()
        for copy in copies:
            copy.send()


def send_to_bucket(path: Path) -> None:
    """Sends what changed in a folder, if it is the copy of one in a bucket, or lies in one; after a checkpoint.

    Raises:
        UserError: The bucket can't be written.
    """
    for copy in _copies:
        if path.is_relative_to(copy.path):
            copy.send()


def _texts(value: Any) -> list[str]:
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


def _local(url: str, flag: str) -> str:
    copy = _Copy(url.rstrip("/"), flag)
    if all(known.url != copy.url for known in _copies):
        _copies.append(copy)
        copy.fetch()
    return str(copy.path)


class _Copy:
    """A file or folder in a bucket, and its copy in the cache.

    A file keeps the bucket's time of its last change, which tells whether either side is newer.
    """

    def __init__(self, url: str, flag: str) -> None:
        self.url, self._flag = url, flag
        scheme, _, place = url.partition("://")
        self.path = cache_folder() / scheme / place
        # Size and time of each file when both sides were the same.
        self._states: dict[str, tuple[int, int]] = {}

    def fetch(self) -> None:
        """Copies what is missing or older on this machine."""
        import tensorflow as tf

        def fetch_one(url: str) -> None:
            path = self.path.parent / url.removeprefix(self.url.rpartition("/")[0]).lstrip("/")
            bucket_time = tf.io.gfile.stat(url).mtime_nsec
            if not path.exists() or path.stat().st_mtime_ns < bucket_time:
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_name(f".{path.name}.partial")
                tf.io.gfile.copy(url, str(partial), overwrite=True)
                partial.replace(path)
                self._note(url, path, bucket_time)
            elif path.stat().st_mtime_ns == bucket_time:
                self._states[url] = _state(path)
            progress.advance()

        with self._errors("read"), ThreadPoolExecutor(_TRANSFERS) as pool:
            urls = self._files_in_bucket()
            with Progress(len(urls), f"copy {self.url} to {self.path}", unit="files") as progress:
                list(pool.map(fetch_one, urls))

    def _files_in_bucket(self) -> list[str]:
        import tensorflow as tf

        if tf.io.gfile.isdir(self.url):
            walk = tf.io.gfile.walk(self.url)
            files = [f"{folder.rstrip('/')}/{name}" for folder, _, names in walk for name in names]
            return [url for url in files if not _is_hidden(Path(url.removeprefix(self.url)))]
        if not tf.io.gfile.exists(self.url):
            return []
        # The shards of records lie beside their manifest.
        stem, _, suffix = self.url.rpartition(".")
        return [self.url, *(tf.io.gfile.glob(f"{stem}-*-of-*.tfrecord") if suffix == "json" else [])]

    def send(self) -> None:
        """Sends what changed since it was fetched or sent, and deletes what is gone from the same folders."""
        import tensorflow as tf

        paths = [self.path] if self.path.is_file() else [path for path in self.path.rglob("*") if path.is_file()]
        local = {self._url_of(path): path for path in paths if not _is_hidden(path.relative_to(self.path.parent))}
        changed = [url for url, path in local.items() if self._states.get(url) != _state(path)]

        def send_one(url: str) -> None:
            tf.io.gfile.copy(str(local[url]), url, overwrite=True)
            self._note(url, local[url], tf.io.gfile.stat(url).mtime_nsec)
            progress.advance()

        if not changed:
            return
        with self._errors("written"), ThreadPoolExecutor(_TRANSFERS) as pool:
            folders = {url.rpartition("/")[0] for url in changed}
            for folder in folders:
                tf.io.gfile.makedirs(folder)
            with Progress(len(changed), f"copy to {self.url}", unit="files") as progress:
                for completes in (False, True):
                    list(pool.map(send_one, [url for url in changed if url.endswith(_COMPLETING) == completes]))
            for url in [url for url in self._states if url.rpartition("/")[0] in folders and url not in local]:
                tf.io.gfile.remove(url)
                del self._states[url]

    def _url_of(self, path: Path) -> str:
        return f"{self.url.rpartition('/')[0]}/{path.relative_to(self.path.parent).as_posix()}"

    def _note(self, url: str, path: Path, bucket_time: int) -> None:
        # ram:// has no times.
        if bucket_time:
            os.utime(path, ns=(bucket_time, bucket_time))
        self._states[url] = _state(path)

    @contextlib.contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            raise UserError(f"cannot be {done} ({first_line(error)})", flag=self._flag, value=self.url) from None


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _is_hidden(path: Path) -> bool:
    """Whether it is a lock, or not written to its end."""
    return any(part.startswith(".") for part in path.parts)
