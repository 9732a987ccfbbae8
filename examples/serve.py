"""Serves an exported SavedModel over HTTP with FastAPI and uvicorn, in the format of TensorFlow Serving's REST API.

pip install fastapi uvicorn
MODEL=runs/demo/saved_models/segment uvicorn --app-dir examples serve:app
python examples/call_server.py http://127.0.0.1:8000/v1/models/segment:predict photo.jpg mask.png
"""

import base64
import os

import tensorflow as tf
from fastapi import FastAPI, HTTPException

# Keep the model: a signature alone does not keep it alive.
model = tf.saved_model.load(os.environ["MODEL"])
serve = model.signatures["serving_default"]
app = FastAPI()


@app.post("/v1/models/{name}:predict")
def predict(name: str, request: dict) -> dict:
    """Answers `{"instances": [{"b64": <JPEG or PNG>}, ...]}` with `{"predictions": [{<output>: <value>}, ...]}`."""
    try:
        images = [base64.b64decode(instance["b64"]) for instance in request["instances"]]
        outputs = serve(image_bytes=tf.constant(images, tf.string))
    except (KeyError, TypeError, ValueError, tf.errors.OpError) as error:
        raise HTTPException(400, f"{type(error).__name__}: {str(error)[:200]}") from None
    values = {output: _json_ready(value.numpy().tolist()) for output, value in outputs.items()}
    return {"predictions": [{output: values[output][index] for output in values} for index in range(len(images))]}


def _json_ready(value):
    if isinstance(value, list):
        return [_json_ready(item) for item in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
