"""Memory of this process."""

import re
from pathlib import Path


def peak_memory_bytes() -> int | None:
    """The most memory that this process has ever had resident, in bytes; None where the system does not say it.

    Not `ru_maxrss`, which a process inherits from the one that has started it.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(peak[1]) * 1024 if peak else None
