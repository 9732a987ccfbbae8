"""Python values as values that JSON can hold."""

import dataclasses
import math
import os
from typing import Any

import numpy as np


def json_ready(value: Any) -> Any:
    """Turns numpy values, paths, tuples and dataclasses into what JSON has; NaN and infinity into None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return json_ready(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return json_ready(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
