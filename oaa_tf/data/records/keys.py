"""Feature keys of a record (a serialized `tf.train.Example`) and of a batch."""

IMAGE_ID = "image_id"
"""Bytes, UTF-8: the image's name without extension."""

IMAGE = "image"
"""Bytes: a JPEG or an 8-bit RGB PNG, upright without its EXIF orientation."""

MASK = "mask"
"""Bytes: an 8-bit grey PNG of the image's size, 0 background, c + 1 class c, 255 ignore; empty without a mask."""

SALIENCY = "saliency"
"""Bytes: an 8-bit grey PNG of the image's size; empty without a saliency map."""

HEIGHT = "height"
"""int64: the image's height in pixels."""

WIDTH = "width"
"""int64: the image's width in pixels."""

LABELS = "labels"
"""int64 list: class indices in ascending order; empty for an image that shows none of the classes."""

IGNORE_LABEL = 255
"""Value of mask pixels that training and evaluation ignore: borders, other classes, ambiguous pseudo labels."""

MAX_MASK_CLASSES = IGNORE_LABEL - 1
"""How many classes masks can number: they are PNG files of 8 bits. Attention maps have no such limit."""

# Features of a batch, beside IMAGE, LABELS and SALIENCY; see `oaa_tf.data.views.input_pipeline`.
POSITION = "position"
EPOCH = "epoch"
CONTENT = "content"
VIEW = "view"
VALID = "valid"
FRAME_VALID = "frame_valid"
ATTENTION = "attention"
SEGMENTATION = "segmentation"
