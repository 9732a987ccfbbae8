"""Asks the server of `serve.py` for the mask of an image. Needs nothing but Python.

python examples/call_server.py http://127.0.0.1:8000/v1/models/segment:predict photo.jpg mask.png
"""

import base64
import json
import sys
import urllib.request
from pathlib import Path


def segment(url: str, image: bytes) -> tuple[bytes, list[float]]:
    """Sends a JPEG or PNG, upright: the server does not apply its EXIF orientation.

    Returns:
        The mask, an 8-bit grey PNG (0 background, c + 1 class c), and each one's share of the pixels, background first.
    """
    body = {"instances": [{"b64": base64.b64encode(image).decode()}]}
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        (prediction,) = json.load(response)["predictions"]
    return base64.b64decode(prediction["mask_bytes"]["b64"]), prediction["shares"]


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python examples/call_server.py URL IMAGE MASK.png")
    mask, shares = segment(sys.argv[1], Path(sys.argv[2]).read_bytes())
    Path(sys.argv[3]).write_bytes(mask)
    print(json.dumps([round(share, 4) for share in shares]))
