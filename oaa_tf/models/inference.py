"""Functions from uint8 images of any size to maps of the same size, with all processing in the graph, for export.

With `portable`, the graph has only operations that ONNX and LiteRT have too. It computes the same, except for the order
of floating-point sums.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from oaa_tf.attention.cam import class_activation_maps, class_scores
from oaa_tf.data.images.decoding import decode_image
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.view import MEAN_RGB, frame_content, frame_valid_cells
from oaa_tf.data.views.view_options import whole_views

IMAGES_SIGNATURE = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")

Functions = dict[str, tf.types.experimental.PolymorphicFunction]
"""The `tf.function`s of a network by the name of their signature."""


def attention_functions(
    network: keras.Model,
    image_size: int,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    portable: bool = False,
) -> Functions:
    """The signature of a class-aware network.

    With several views of an image, scores are the mean over the views, and so are maps, which are normalised again.

    Args:
        network: From `oaa_tf.models.class_aware`.
        image_size: Long side in pixels to which images are resized.
        scales: Sizes of the views that the network sees of an image, relative to `image_size`.
        flip: Whether the network also sees every view mirrored.
        portable: Whether to use only operations that ONNX and LiteRT have.

    Returns:
        "attention", a function from images, uint8 RGB `[batch, height, width, 3]`, to `attention`, float32
        `[batch, height, width, C]` in [0, 1] (Eq. 2, each class by itself), and `scores`, float32 `[batch, C]`, the
        probabilities p_c of Eq. 1 (meaningful for classifiers only).
    """
    views = whole_views(scales, flip)
    run_views = functools.partial(_run_views, _scores(network, portable), image_size, views, portable)

    @tf.function(input_signature=[IMAGES_SIGNATURE], autograph=False)
    def attention(images):
        maps, scores = [], []
        for view in run_views(images):
            maps.append(view.to_images(class_activation_maps(view.scores, view.valid)))
            scores.append(tf.sigmoid(class_scores(view.scores, view.valid)))
        if len(maps) == 1:
            return {"attention": maps[0], "scores": scores[0]}
        mean = tf.add_n(maps) / len(maps)
        highest = tf.reduce_max(mean, axis=(1, 2), keepdims=True)
        return {"attention": tf.math.divide_no_nan(mean, highest), "scores": tf.add_n(scores) / len(scores)}

    return {"attention": attention}


def segmentation_functions(
    network: keras.Model,
    image_size: int,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    class_prior: bool = False,
    portable: bool = False,
) -> Functions:
    """The signatures of a segmentation network.

    With several views of an image, probabilities are the mean over the views.

    Args:
        network: From `oaa_tf.models.largefov`.
        image_size: As in `attention_functions`; so are `scales`, `flip` and `portable`.
        class_prior: Whether to apply `under_class_prior` to the probabilities.

    Returns:
        Two functions from images, uint8 RGB `[batch, height, width, 3]`: "segment" to `mask`, uint8
        `[batch, height, width]` (0 background, c + 1 class c), and "probabilities" to `probabilities`, float32
        `[batch, height, width, C + 1]`, which takes longer.
    """
    views = whole_views(scales, flip)
    run_views = functools.partial(_run_views, _scores(network, portable), image_size, views, portable)

    def probabilities_of(images: tf.Tensor) -> tf.Tensor:
        of_views = [tf.nn.softmax(view.to_images(view.scores)) for view in run_views(images)]
        mean = tf.add_n(of_views) / len(of_views)
        return under_class_prior(mean) if class_prior else mean

    @tf.function(input_signature=[IMAGES_SIGNATURE], autograph=False)
    def segment(images):
        if len(views) > 1 or class_prior:
            return {"mask": tf.cast(tf.argmax(probabilities_of(images), axis=-1, output_type=tf.int32), tf.uint8)}
        [view] = run_views(images)
        logits = _interpolated(view.scores, view.content, view.size)
        if portable:
            return {"mask": tf.cast(tf.argmax(logits, axis=1, output_type=tf.int32), tf.uint8)}
        return {"mask": _fast_argmax(logits)}

    @tf.function(input_signature=[IMAGES_SIGNATURE], autograph=False)
    def probabilities(images):
        return {"probabilities": probabilities_of(images)}

    return {"segment": segment, "probabilities": probabilities}


def under_class_prior(probabilities: tf.Tensor) -> tf.Tensor:
    """Weighs classes by how frequent they are in the image, since an image shows few of the classes.

    The frequency of a class is its mean probability over the pixels of the image: one step of the expectation
    maximization of Saerens et al. (Neural Computation 2002) that starts from equal frequencies. The background keeps
    its probability; the classes share the rest in proportion to probability times frequency.

    Args:
        probabilities: float32 `[batch, height, width, C + 1]`, background first.

    Returns:
        The new probabilities, of the same shape.
    """
    background, classes = probabilities[..., :1], probabilities[..., 1:]
    weighted = classes * tf.reduce_mean(classes, axis=(1, 2), keepdims=True)
    share = tf.math.divide_no_nan(weighted, tf.reduce_sum(weighted, axis=-1, keepdims=True))
    return tf.concat([background, share * tf.reduce_sum(classes, axis=-1, keepdims=True)], axis=-1)


def serving_function(functions: Functions) -> tf.types.experimental.PolymorphicFunction:
    """The signature for servers: encoded images of any sizes in, small answers out.

    TensorFlow Serving sends outputs whose name ends in `_bytes` as base64.

    Args:
        functions: From `attention_functions` or `segmentation_functions`.

    Returns:
        A function from `image_bytes`, string `[batch]`, JPEGs or PNGs. Their EXIF orientation is not applied.

        - Of a segmentation network, to `mask_bytes`, string `[batch]`, 8-bit grey PNGs of the size of their images (0
          background, c + 1 class c), and `shares`, float32 `[batch, C + 1]`, the share of the pixels by label.
        - Of a class-aware network, to `attention_bytes`, string `[batch, C]`, 8-bit grey PNGs with attention as
          value / 255, and `scores`, float32 `[batch, C]`.
    """

    def segment(image: tf.Tensor) -> dict[str, tf.Tensor]:
        mask = functions["segment"](image)["mask"][0]
        num_channels = functions["probabilities"].get_concrete_function().structured_outputs["probabilities"].shape[-1]
        counts = tf.math.bincount(tf.cast(mask, tf.int32), minlength=num_channels, maxlength=num_channels)
        return {
            "mask_bytes": tf.io.encode_png(mask[..., tf.newaxis]),
            "shares": tf.cast(counts, tf.float32) / tf.cast(tf.size(mask), tf.float32),
        }

    def attention(image: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = functions["attention"](image)
        levels = tf.cast(tf.round(outputs["attention"][0] * 255.0), tf.uint8)
        pictures = tf.transpose(levels, [2, 0, 1])[..., tf.newaxis]
        return {
            "attention_bytes": tf.map_fn(tf.io.encode_png, pictures, fn_output_signature=tf.string),
            "scores": outputs["scores"][0],
        }

    if "segment" in functions:
        answer, outputs = segment, {"mask_bytes": tf.string, "shares": tf.float32}
    else:
        answer, outputs = attention, {"attention_bytes": tf.string, "scores": tf.float32}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def serve(image_bytes):
        return tf.map_fn(lambda data: answer(decode_image(data)[tf.newaxis]), image_bytes, fn_output_signature=outputs)

    return serve


def to_image(maps: tf.Tensor, content: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resamples maps from the grid to the pixels of the image, bilinearly: `Frame.to_image` in the graph.

    Args:
        maps: float32 `[batch, rows, columns, channels]`.
        content: int32 `[2]`, height and width of the resized image.
        size: int32 `[2]`, height and width of the image.

    Returns:
        float32 `[batch, size[0], size[1], channels]`.
    """
    return tf.transpose(_interpolated(maps, content, size), [0, 2, 3, 1])


def _interpolated(maps: tf.Tensor, content: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """`to_image` with the result `[batch, channels, size[0], size[1]]`, which is faster."""
    weights = []
    for axis in (0, 1):
        num_cells = tf.shape(maps)[1 + axis]
        num_valid = tf.maximum((2 * content[axis] + STRIDE) // (2 * STRIDE), 1)
        pixels = (tf.range(size[axis], dtype=tf.float32) + 0.5) * (
            tf.cast(content[axis], tf.float32) / tf.cast(size[axis], tf.float32)
        )
        cells = tf.clip_by_value(pixels / STRIDE - 0.5, 0.0, tf.cast(num_valid - 1, tf.float32))
        distance = tf.abs(cells[:, tf.newaxis] - tf.range(tf.cast(num_cells, tf.float32)))
        weights.append(tf.nn.relu(1.0 - distance))
    return _resampled(tf.transpose(maps, [0, 3, 1, 2]), *weights)


def _resampled(planes: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Multiplies planes with a matrix from the left and one from the right.

    In TensorFlow 2.21, oneDNN writes beyond its result when it multiplies several matrices with one and an axis has
    length 1 (github.com/tensorflow/tensorflow/issues/117700). So the first product here is of two matrices, and the
    second has equally many on both sides. `tensordot` would do for the first, but LiteRT cannot convert its reshaping
    to more than one unknown size.

    Args:
        planes: float32 `[batch, channels, height, width]`.
        rows: float32 `[new height, height]`, the weights of the old rows in each new row.
        columns: float32 `[new width, width]`, likewise.

    Returns:
        `[batch, channels, new height, new width]`.
    """
    batch, channels, height, width = tf.unstack(tf.shape(planes))
    new_height, new_width = tf.shape(rows)[0], tf.shape(columns)[0]
    # Columns first: the planes have few rows, which keeps the result of the first product small.
    wide = tf.linalg.matmul(tf.reshape(planes, [-1, width]), columns, transpose_b=True)
    wide = tf.reshape(wide, [batch * channels, height, new_width])
    resampled = tf.tile(rows[tf.newaxis], [batch * channels, 1, 1]) @ wide
    resampled = tf.reshape(resampled, [batch, channels, new_height, new_width])
    resampled.set_shape([*planes.shape[:2], None, None])
    return resampled


def _fast_argmax(scores: tf.Tensor) -> tf.Tensor:
    """`tf.argmax` over the second of four axes, as uint8, for at most 255 entries; faster than TensorFlow's."""
    num_channels = scores.shape[1]
    is_greatest = tf.cast(scores >= tf.reduce_max(scores, axis=1, keepdims=True), tf.uint8)
    descending = tf.reshape(tf.range(num_channels, 0, -1), [-1, 1, 1])
    return tf.cast(num_channels, tf.uint8) - tf.reduce_max(is_greatest * tf.cast(descending, tf.uint8), axis=1)


@dataclasses.dataclass(frozen=True)
class _View:
    """The output of the network for one view of a batch of images.

    Attributes:
        scores: float32 `[batch, rows, columns, channels]`, the output.
        valid: bool `[batch, rows, columns]`, the cells that show the image.
        content: int32 `[2]`, height and width of the resized images.
        size: int32 `[2]`, height and width of the images.
        mirrored: Whether the view is mirrored.
    """

    scores: tf.Tensor
    valid: tf.Tensor
    content: tf.Tensor
    size: tf.Tensor
    mirrored: bool

    def to_images(self, maps: tf.Tensor) -> tf.Tensor:
        """Resamples maps on the grid of the view to the pixels of the images, see `to_image`."""
        maps = to_image(maps, self.content, self.size)
        return tf.reverse(maps, axis=[2]) if self.mirrored else maps


def _scores(network: keras.Model, portable: bool) -> Callable[[tf.Tensor], tf.Tensor]:
    """The network's scores of images, as one function for all signatures and views.

    So a SavedModel has it once, and TensorFlow optimizes it once, if it does not inline it.
    """

    def scores_of(images: tf.Tensor) -> tf.Tensor:
        return network(images, training=False)

    if portable:
        return scores_of
    signature = [tf.TensorSpec([None, None, None, 3], tf.float32)]
    return tf.function(scores_of, signature, autograph=False, experimental_attributes={"_noinline": True})


def _run_views(
    scores_of: Callable[[tf.Tensor], tf.Tensor],
    image_size: int,
    views: Sequence[tuple[float, bool]],
    portable: bool,
    images: tf.Tensor,
) -> Iterator[_View]:
    size = tf.shape(images)[1:3]
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    resize = _resized if portable else functools.partial(tf.image.resize, antialias=True)
    for scale, mirrored in views:
        content = frame_content(height, width, round(scale * image_size))
        resized = resize(tf.reverse(images, axis=[2]) if mirrored else images, content)
        # Padded to the next multiple of the stride with the color that preprocessing turns into zero. tf2onnx makes a
        # negative remainder of `-content % STRIDE`.
        margin = (STRIDE - content % STRIDE) % STRIDE
        mean = tf.constant(MEAN_RGB)
        padded = tf.pad(resized - mean, [[0, 0], [0, margin[0]], [0, margin[1]], [0, 0]]) + mean
        scores = scores_of(padded)
        longest = tf.reduce_max(tf.shape(scores)[1:3])
        valid = frame_valid_cells(tf.tile(content[tf.newaxis], [batch, 1]), longest)
        yield _View(scores, valid[:, : tf.shape(scores)[1], : tf.shape(scores)[2]], content, size, mirrored)


def _resized(images: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """`tf.image.resize(images, size, antialias=True)` with matrix products."""
    weights = []
    for axis in (0, 1):
        num_in, num_out = (tf.cast(shape[axis], tf.float32) for shape in (tf.shape(images)[1:3], size))
        reach = tf.maximum(num_in / num_out, 1.0)
        centers = (tf.range(num_out) + 0.5) * (num_in / num_out)
        distance = tf.abs(tf.expand_dims(centers, 1) - tf.expand_dims(tf.range(num_in) + 0.5, 0))
        tent = tf.nn.relu(1.0 - distance / reach)
        weights.append(tent / tf.reduce_sum(tent, axis=1, keepdims=True))
    planes = tf.transpose(tf.cast(images, tf.float32), [0, 3, 1, 2])
    return tf.transpose(_resampled(planes, *weights), [0, 2, 3, 1])
