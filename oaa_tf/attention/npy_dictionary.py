"""Reads a dictionary of arrays from an `.npy` file, without running code from the file and without PyTorch.

Programs of the IRN family store attention maps as `np.save(path, {"keys": ..., "high_res": ...})`, a pickle, whose
values may be PyTorch tensors. A pickle can call anything, so numpy refuses to read one by default; here only what
arrays and CPU tensors need is allowed.
"""

import io
import math
import os
import pickle
import pickletools
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from oaa_tf.command_line.errors import UserError, first_line

_STORAGE_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


def read_npy_dictionary(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a dictionary that `np.save` wrote.

    Args:
        path: An `.npy` file.

    Returns:
        The dictionary; PyTorch tensors as numpy arrays.

    Raises:
        UserError: The file is missing, is something else, or holds objects other than arrays and CPU tensors.
    """
    try:
        with open(path, "rb") as file:
            major, _ = npy_format.read_magic(file)
            read_header = {1: npy_format.read_array_header_1_0, 2: npy_format.read_array_header_2_0}[major]
            shape, _, dtype = read_header(file)
            if shape != () or dtype != np.dtype(object):
                raise ValueError(f"it is an array of {dtype}")
            pickled = file.read()
        _check_memo(pickled)
        content = _ArrayUnpickler(io.BytesIO(pickled)).load()
        if not isinstance(content, np.ndarray) or content.shape != () or not isinstance(content.item(), dict):
            held = content.item() if isinstance(content, np.ndarray) and content.size == 1 else content
            raise ValueError(f"it holds a {type(held).__name__}")
        return {str(key): _as_array(value) for key, value in content.item().items()}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:  # A damaged pickle raises almost anything.
        reason = first_line(error)
        raise UserError(f"{path}: not a dictionary of arrays as np.save writes it: {reason}") from None


def _check_memo(pickled: bytes) -> None:
    """Refuses numbers of objects that no pickle of this length can have: Python makes room for as many.

    Raises:
        ValueError: There is one, or the pickle is cut or damaged.
    """
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > len(pickled):
            raise ValueError("its pickle is damaged")


def _as_array(value: Any) -> np.ndarray:
    """Arrays, numbers and lists of numbers as arrays; what is nested could unfold to any size."""
    items = value if isinstance(value, list | tuple) else (value,)
    if isinstance(value, np.ndarray) or all(isinstance(item, int | float | np.generic) for item in items):
        return np.asarray(value)
    raise ValueError(f"it holds a {type(value).__name__} of other things than numbers")


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays and PyTorch CPU tensors (as numpy arrays), nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        # Up to version 1, numpy named its modules without the underscore.
        module = module.replace("numpy.core.", "numpy._core.")
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy._core.multiarray", "scalar"): _scalar,
            ("numpy._core.numeric", "_frombuffer"): _from_buffer,
            ("_codecs", "encode"): _encode,
            ("collections", "OrderedDict"): OrderedDict,
            ("torch.storage", "_load_from_bytes"): _storage,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return allowed[module, name]


class _StorageUnpickler(pickle.Unpickler):
    """Unpickles the description of a tensor's storage."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGE_DTYPES:
            return np.dtype(_STORAGE_DTYPES[name])
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    def persistent_load(self, pid: Any) -> Any:
        return pid


# The three functions of numpy by which its pickles make arrays and numbers are not public.
def _reconstruct(kind: type[np.ndarray], shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array that the pickle fills afterwards."""
    return np.ndarray(shape, dtype)


def _scalar(dtype: np.dtype, data: bytes) -> np.generic:
    return np.frombuffer(data, dtype)[0]


def _from_buffer(data: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(shape, order=order)  # type: ignore[call-overload]


def _encode(text: str, encoding: str) -> bytes:
    """How old pickle protocols spell bytes."""
    return text.encode(encoding)


def _storage(data: bytes) -> np.ndarray:
    """The values of a storage saved with `torch.save` in its stream format.

    Five pickles (magic number, format version, byte sizes, description, list of keys), then the number of values as
    int64, then the values.
    """
    stream = io.BytesIO(data)
    _, _, _, (_, dtype, _, _, num_values, *_), _ = (_StorageUnpickler(stream).load() for _ in range(5))
    stored = int.from_bytes(stream.read(8), "little")
    if stored != num_values:
        raise ValueError("a tensor's storage is damaged")
    return np.frombuffer(stream.read(), dtype.newbyteorder("<"), count=num_values)


def _tensor(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    if math.prod(size) > storage.size:
        raise ValueError("a tensor is larger than its storage")
    indices = np.full(size, offset, np.int64)
    for axis, (length, step) in enumerate(zip(size, stride, strict=True)):
        indices += (np.arange(length) * step).reshape([-1 if other == axis else 1 for other in range(len(size))])
    return storage[indices]
