"""Bad input, made by code: what disks, downloads, editors and strangers do to files.

`damages` draws a way of spoiling bytes, `spoiled_json` one of spoiling a JSON document; the functions below them make
whole files that are wrong in one particular way. Nothing here knows what it is a test of.
"""

import functools
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from hypothesis import strategies as st

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

OUTSIDE = ("../secret", "../../etc/passwd", "/etc/passwd", "a/../../b", "..", ".", "", "a\\..\\b", "a\0b", "a" * 300)
"""Names that must never be joined to a folder."""


# Damage to any file


def damages() -> st.SearchStrategy[Callable[[bytes], bytes]]:
    """Ways of spoiling a file's bytes; places and lengths are drawn as shares of the file."""
    share = st.floats(0, 1, exclude_max=True)
    return st.one_of(
        st.builds(_cut, share),
        st.builds(_cut_the_end, st.integers(1, 40)),
        st.builds(_flip, st.lists(st.tuples(share, st.integers(0, 7)), min_size=1, max_size=4)),
        st.builds(_zero, share, st.integers(1, 4096)),
        st.builds(_insert, share, st.binary(min_size=1, max_size=64)),
        st.builds(_drop, share, st.integers(1, 512)),
        st.builds(_repeat, share, st.integers(1, 512)),
        st.sampled_from([_Replaced(name) for name in OTHER_FILES]),
    )


class _Damage:
    """A function from bytes to bytes whose representation says what it does, for hypothesis' reports."""

    def __init__(self, text: str, spoil: Callable[[bytes], bytes]) -> None:
        self.text = text
        self.spoil = spoil

    def __call__(self, data: bytes) -> bytes:
        return self.spoil(data)

    def __repr__(self) -> str:
        return self.text


def _cut(share: float) -> _Damage:
    return _Damage(f"cut at {share:.3g}", lambda data: data[: int(share * len(data))])


def _cut_the_end(count: int) -> _Damage:
    return _Damage(f"without the last {count} bytes", lambda data: data[:-count])


def _flip(places: list[tuple[float, int]]) -> _Damage:
    def spoil(data: bytes) -> bytes:
        changed = bytearray(data)
        for share, bit in places:
            if changed:
                changed[int(share * len(changed))] ^= 1 << bit
        return bytes(changed)

    return _Damage(f"bits {places} flipped", spoil)


def _zero(share: float, count: int) -> _Damage:
    def spoil(data: bytes) -> bytes:
        start = int(share * len(data))
        count_here = len(data[start : start + count])
        return data[:start] + bytes(count_here) + data[start + count_here :]

    return _Damage(f"{count} zeros at {share:.3g}", spoil)


def _insert(share: float, inserted: bytes) -> _Damage:
    def spoil(data: bytes) -> bytes:
        start = int(share * len(data))
        return data[:start] + inserted + data[start:]

    return _Damage(f"{inserted!r} inserted at {share:.3g}", spoil)


def _drop(share: float, count: int) -> _Damage:
    def spoil(data: bytes) -> bytes:
        start = int(share * len(data))
        return data[:start] + data[start + count :]

    return _Damage(f"{count} bytes dropped at {share:.3g}", spoil)


def _repeat(share: float, count: int) -> _Damage:
    def spoil(data: bytes) -> bytes:
        start = int(share * len(data))
        return data[: start + count] + data[start:]

    return _Damage(f"{count} bytes twice at {share:.3g}", spoil)


class _Replaced(_Damage):
    """Another file in its place."""

    def __init__(self, name: str) -> None:
        super().__init__(f"replaced by {name}", lambda data: OTHER_FILES[name])


# JSON


def junk() -> st.SearchStrategy[Any]:
    """Values that a program does not expect in a JSON document."""
    return st.one_of(
        st.sampled_from([None, True, False, 0, -1, 1, 2**31, 2**63, -(2**70), 10**400, 1e308, float("nan")]),
        st.sampled_from([float("inf"), "", "x", [], {}, [[]], [None], {"a": 1}, "\x1b[31m", "\ud800", *OUTSIDE]),
        st.text(max_size=20),
        st.integers(),
        st.floats(),
    )


@st.composite
def spoiled_json(draw: st.DrawFn, document: Any) -> Any:
    """A JSON document with one to three values, somewhere in it, removed, replaced by junk or doubled."""
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        if not isinstance(document, dict | list):
            return document
        document = _spoiled_once(draw, document)
    return document


def _spoiled_once(draw: st.DrawFn, document: Any) -> Any:
    places = [(None, None), *_places(document)]
    parent, key = draw(st.sampled_from(places))
    if parent is None:
        return draw(junk())
    action = draw(st.sampled_from(["replace", "replace", "remove", "double"]))
    if action == "remove":
        del parent[key]
    elif action == "double" and isinstance(parent, list):
        parent.append(parent[key])
    else:
        parent[key] = draw(junk())
    return document


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) in a document."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *_places(value[key])]]


# PNG


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, pixels: bytes, *, depth: int = 8, color_type: int = 0, interlace: int = 0) -> bytes:
    """A PNG with right checksums whose header and pixel data need not fit together."""
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, interlace)
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b""))
    return PNG_SIGNATURE + b"".join(chunks)


def png_bomb(side: int) -> bytes:
    """A well-formed grey PNG of side x side zeros, a thousandth of that in bytes."""
    compressor = zlib.compressobj(9)
    row = bytes(side + 1)
    data = b"".join([*(compressor.compress(row) for _ in range(side)), compressor.flush()])
    return png(side, side, data)


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(cv2.imencode(".jpg", np.full((8, 8, 3), 90, np.uint8))[1].tobytes())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_of_size(width: int, height: int) -> bytes:
    """A small BMP whose header claims another size."""
    data = bytearray(cv2.imencode(".bmp", np.full((8, 8, 3), 90, np.uint8))[1].tobytes())
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


@functools.cache
def hostile_images() -> dict[str, bytes]:
    """Images that claim or unfold to sizes that nothing should allocate, and other odd ones."""
    pixels = zlib.compress(bytes(50))
    return {
        "huge PNG header": png(2**31 - 1, 2**31 - 1, pixels),
        "wide PNG header": png(2**31 - 1, 1, pixels),
        "tall PNG header": png(1, 2**31 - 1, pixels),
        "PNG of size 0": png(0, 0, pixels),
        "PNG of depth 0": png(4, 4, pixels, depth=0),
        "PNG of depth 77": png(4, 4, pixels, depth=77),
        "PNG of color type 99": png(4, 4, pixels, color_type=99),
        "PNG of interlace 9": png(4, 4, pixels, interlace=9),
        "RGB PNG header of 300 megapixels": png(20_000, 15_000, pixels, color_type=2),
        "PNG bomb": png_bomb(12_000),
        "PNG without pixels": png(4, 4, b""),
        "PNG with a bad filter": png(4, 4, zlib.compress(b"\x63\0\0\0\0" * 4)),
        "huge JPEG header": jpeg_of_size(65_500, 65_500),
        "JPEG header of 300 megapixels": jpeg_of_size(20_000, 15_000),
        "huge BMP header": bmp_of_size(2**31 - 1, 2**31 - 1),
        "BMP header of 121 megapixels": bmp_of_size(11_000, 11_000),
        "BMP of size 0": bmp_of_size(0, 0),
        "huge GIF header": b"GIF89a" + b"\xff" * 4 + bytes(100),
        "JPEG of size 0": jpeg_of_size(0, 0),
        "JPEG markers only": b"\xff\xd8\xff\xd9",
        **{f"{name} for an image": data for name, data in OTHER_FILES.items()},
    }


# XML


def hostile_annotations() -> dict[str, bytes]:
    """XML that grows, reads other files, nests, or lies about its encoding; none of it is an annotation."""
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    laughs = f'<!DOCTYPE a [<!ENTITY l0 "ha">{entities}]><annotation><object><name>&l11;</name></object></annotation>'
    external = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><object><name>&x;</name></object>'
    parameter = '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://localhost/x"> %p;]><annotation/>'
    quadratic = f'<!DOCTYPE a [<!ENTITY x "{"x" * 50_000}">]><annotation>{"&x;" * 50_000}</annotation>'
    return {
        "billion laughs": laughs.encode(),
        "billion laughs in UTF-16": laughs.encode("utf-16"),
        "quadratic blowup": quadratic.encode(),
        "external entity": (external + "</annotation>").encode(),
        "parameter entity": parameter.encode(),
        "entity that is not declared": b"<annotation><object><name>&unknown;</name></object></annotation>",
        "open tags": b"<a>" * 100_000,
        "class of ten megabytes": b"<annotation><object><name>" + b"x" * 10**7 + b"</name></object></annotation>",
        "class with a terminal's commands": "<annotation><object><name>\x9b31m</name></object></annotation>".encode(),
        "wrong encoding": b"<?xml version='1.0' encoding='utf-32'?><annotation><object/></annotation>",
        "unknown encoding": b"<?xml version='1.0' encoding='klingon'?><annotation><object/></annotation>",
        "null bytes": b"<annotation>\0</annotation>",
        "an object without a name": b"<annotation><object></object></annotation>",
        "zeros": bytes(1000),
    }


# NumPy and pickle


def npy(header: str, data: bytes = b"", *, version: bytes = b"\x01\x00") -> bytes:
    """An .npy file with any header."""
    encoded = header.encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(encoded)) + encoded + data


def hostile_arrays() -> dict[str, bytes]:
    """.npy files with headers that make no sense, or no arrays at all."""

    def of_shape(shape: str, descr: str = "'|u1'") -> bytes:
        return npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}", bytes(64))

    archive = io.BytesIO()
    np.savez(archive, maps=np.zeros(4, np.uint8))
    empty_zip = io.BytesIO()
    zipfile.ZipFile(empty_zip, "w").close()
    return {
        "petabytes": of_shape("(1000000000000, 1000, 1000)"),
        "more than 64 bits": of_shape("(10000000000000000000000000,)"),
        "negative shape": of_shape("(-4, 2)"),
        "shape of text": of_shape("('a',)"),
        "shape of floats": of_shape("(1.5,)"),
        "no shape": npy("{'descr': '|u1'}"),
        "65 dimensions": of_shape(f"({'1, ' * 65})"),
        "records of nothing": of_shape("(4,)", "[]"),
        "no dtype": of_shape("(4,)", "'zz'"),
        "objects": of_shape("(4,)", "'|O'"),
        "code for a header": npy("__import__('os').system('true')"),
        "deep header": npy("(" * 500 + ")" * 500),
        "version 9": npy("{}", version=b"\x09\x00"),
        "header of 4 GB": b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\xff",
        "an .npz archive": archive.getvalue(),
        "an empty zip": empty_zip.getvalue(),
        "the beginning of a zip": archive.getvalue()[:20],
    }


class _Call:
    """Pickles as a call."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile_pickles() -> dict[str, bytes]:
    """Object arrays whose pickles call things or unfold without bound."""

    def saved(content: Any) -> bytes:
        file = io.BytesIO()
        np.save(file, np.array(content, object).reshape(()) if not isinstance(content, dict) else content)
        return file.getvalue()

    nested: Any = [0] * 10
    for _ in range(12):
        nested = [nested] * 10
    header = npy("{'descr': '|O', 'fortran_order': False, 'shape': (), }")
    return {
        "a call of eval": saved({"keys": _Call(eval, "1 + 1")}),
        "lists that unfold to ten trillion": saved({"keys": nested}),
        "a string for an array": saved({"keys": "x" * 100}),
        "a set for an array": saved({"keys": {1, 2}}),
        "an array of terabytes": saved({"keys": _Call(np.ndarray, (10**12,))}),
        "a memo of gigabytes": header + b"\x80\x04Nr\xff\xff\xff\x7f.",
        "a string of 4 GB": header + b"\x80\x04X\xff\xff\xff\xff.",
        "marks without end": header + b"(" * 100_000,
        "nothing": header,
        "a number": header + pickle.dumps(3),
        "none": header + b"\x80\x04N.",
    }


# Text


def hostile_texts() -> dict[str, bytes]:
    """Text files that are wrong as a list of anything."""
    return {
        "zeros": bytes(2000),
        "a line of ten megabytes": b"x" * 10**7,
        "a million words in a line": b"a " * 10**6,
        "invalid UTF-8": b"tiny_000\n\xc3\x28\n",
        "UTF-16": "tiny_000\ntiny_001\n".encode("utf-16"),
        "a terminal's commands": b"\x1b[31mtiny_000\x1b[0m 1 2 3\n",
        "a null byte": b"tiny_000\0.jpg\n",
        "digits beyond ASCII": "tiny_000 \u0662\n".encode(),
        "a right-to-left mark": "tiny_\u202e000\n".encode(),
        **{f"the name {name[:20]!r}": f"{name} 0\n".encode() for name in OUTSIDE if name.strip()},
        "a path of two names": b"/JPEGImages/../../secret.jpg /SegmentationClass/../../secret.png\n",
    }


def hostile_json() -> dict[str, bytes]:
    """JSON that is none, or none that one would expect."""
    return {
        "deep lists": b"[" * 100_000,
        "deep dictionaries": b'{"a":' * 100_000,
        "a number of 10,000 digits": b"9" * 10_000,
        "infinity": b"1e999",
        "not a number": b"NaN",
        "half a character": b'"\\ud800"',
        "two documents": b"{}{}",
        "UTF-16": '{"a": 1}'.encode("utf-16"),
        "a byte order mark": b"\xef\xbb\xbf{}",
        "zeros": bytes(100),
    }


OTHER_FILES = {
    "an empty file": b"",
    "a null byte": b"\0",
    "zeros": bytes(5000),
    "ones": b"\xff" * 5000,
    "HTML": b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n",
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "text": b"one\ntwo\nthree\n",
    "JSON": b'{"mean_iou": 0.5}\n',
    "a JSON list": b"[1, 2]\n",
    "a GIF": b"GIF89a" + bytes(100),
    "a TIFF": b"II*\0" + bytes(100),
    "a pickle": pickle.dumps({"a": [1, 2]}),
    "a zip": b"PK\x03\x04" + bytes(100),
    "gzip": b"\x1f\x8b\x08" + bytes(50),
    "ELF": b"\x7fELF" + bytes(200),
}
"""Whole files of the wrong type."""
