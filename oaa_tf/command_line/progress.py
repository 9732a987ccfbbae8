"""Progress of a long loop on stderr: one updating line on a terminal, a line now and then in a log file."""

import sys
import threading
import time
from typing import Self

_TERMINAL_SECONDS = 0.2
_LOG_SECONDS = 10.0


class Progress:
    """Counts finished images and shows share, rate and time left. Thread-safe.

    ```
    with Progress(len(images), "records") as progress:
        for image in images:
            ...
            progress.advance()
    ```

    Args:
        total: Number of images in all.
        label: The beginning of the line.
        done: Images that an earlier run finished; they do not count for the rate.
        unit: What is counted, if not images.
    """

    def __init__(self, total: int, label: str, *, done: int = 0, unit: str = "images") -> None:
        self._total = total
        self._label = label
        self._unit = unit
        self._done = self._done_before = done
        self._note = ""
        self._is_terminal = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._start = self._last_shown = time.monotonic()
        self._shown_width = 0

    def __enter__(self) -> Self:
        self._start = self._last_shown = time.monotonic()
        return self

    def advance(self, count: int = 1, note: str = "") -> None:
        """Adds finished images.

        Args:
            count: How many.
            note: A few words for the end of the line, such as the current loss.
        """
        with self._lock:
            self._done += count
            self._note = note or self._note
            now = time.monotonic()
            if now - self._last_shown >= (_TERMINAL_SECONDS if self._is_terminal else _LOG_SECONDS):
                self._last_shown = now
                self._show(self._line(now))

    @property
    def rate(self) -> float:
        """Images per second since the start."""
        return (self._done - self._done_before) / max(time.monotonic() - self._start, 1e-9)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._show(self._line(time.monotonic(), final=True))
        if self._is_terminal and self._shown_width:
            print(file=sys.stderr, flush=True)

    def _line(self, now: float, final: bool = False) -> str:
        rate = self.rate
        if final:
            ending = f"in {_duration(now - self._start)}"
        else:
            ending = f"{_duration((self._total - self._done) / rate)} left" if rate > 0 else "? left"
        # Slow loops need decimals: 0.3 images/s is not 0.
        speed = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
        share = 100 * self._done // self._total if self._total else 100
        line = f"{self._label}: {self._done}/{self._total} {self._unit} ({share} %), {speed} {self._unit}/s, {ending}"
        return f"{line}, {self._note}" if self._note else line

    def _show(self, line: str) -> None:
        if self._is_terminal:
            padded = line.ljust(self._shown_width)
            print(f"\r{padded}", end="", file=sys.stderr, flush=True)
            self._shown_width = len(line)
        else:
            print(line, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
