"""From uint8 images of any size to maps of the same size: what is exported, with all processing in the graph.

With `portable`, the graph has only operations that ONNX and LiteRT have too. It computes the same, but for the order of
floating-point sums.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import tensorflow as tf

from oaa_tf.attention.cam import class_activation_maps, class_scores
from oaa_tf.data.images.image_files import decode_image
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.view import MEAN_RGB, frame_content, frame_valid_cells
from oaa_tf.data.views.view_options import whole_views

IMAGES_SIGNATURE = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")


def attention_functions(
    network: keras.Model,
    image_size: int,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    portable: bool = False,
):
    """The signature of a class-aware network.

    Several views of an image have the mean of their scores, and that of their maps, normalised again.

    Args:
        network: From `oaa_tf.models.class_aware`.
        image_size: Long side in pixels to which images are resized.
        scales: Sizes of the views that the network sees of an image, relative to `image_size`.
        flip: Whether it also sees every view mirrored.
        portable: Whether ONNX and LiteRT have all operations.

    Returns:
        By its name `attention`, a `tf.function` from images, uint8 RGB `[batch, height, width, 3]`, to a dictionary of
        `attention`, float32 `[batch, height, width, C]` in [0, 1] (Eq. 2, every class normalised by itself), and
        `scores`, float32 `[batch, C]`, the probabilities p_c of Eq. 1 (meaningful for classifiers).
    """
    views = functools.partial(_views, network, image_size, whole_views(scales, flip), portable)

    @tf.function(input_signature=[IMAGES_SIGNATURE])
    def attention(images):
        maps, scores = [], []
        for view in views(images):
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
):
    """The signatures of a segmentation network.

    Several views of an image have the mean of their probabilities.

    Args:
        network: From `oaa_tf.models.largefov`.
        image_size: As in `attention_functions`, as are `scales`, `flip` and `portable`.
        class_prior: Whether the probabilities go through `under_class_prior`.

    Returns:
        By name, two `tf.function`s from images, uint8 RGB `[batch, height, width, 3]`, to a dictionary: `segment` gives
        `mask`, uint8 `[batch, height, width]` (0 background, c + 1 class c), and `probabilities` gives `probabilities`,
        float32 `[batch, height, width, C + 1]`, which takes longer.
    """
    looks = whole_views(scales, flip)
    views = functools.partial(_views, network, image_size, looks, portable)

    def probabilities_of(images: tf.Tensor) -> tf.Tensor:
        of_views = [tf.nn.softmax(view.to_images(view.scores)) for view in views(images)]
        mean = tf.add_n(of_views) / len(of_views)
        return under_class_prior(mean) if class_prior else mean

    @tf.function(input_signature=[IMAGES_SIGNATURE])
    def segment(images):
        if len(looks) > 1 or class_prior:
            return {"mask": tf.cast(tf.argmax(probabilities_of(images), axis=-1, output_type=tf.int32), tf.uint8)}
        [view] = views(images)
        logits = _interpolated(view.scores, view.content, view.size)
        if portable:
            return {"mask": tf.cast(tf.argmax(logits, axis=1, output_type=tf.int32), tf.uint8)}
        return {"mask": _first_of_the_greatest(logits)}

    @tf.function(input_signature=[IMAGES_SIGNATURE])
    def probabilities(images):
        return {"probabilities": probabilities_of(images)}

    return {"segment": segment, "probabilities": probabilities}


def under_class_prior(probabilities: tf.Tensor) -> tf.Tensor:
    """Probabilities that take into account that an image shows few of the classes.

    Which classes are frequent in an image is estimated from its own pixels: one step of the expectation maximization of
    Saerens et al. (Neural Computation 2002), from classes that are equally frequent. The background keeps its
    probability, and the classes share the rest anew.

    Args:
        probabilities: float32 `[batch, height, width, C + 1]`, background first.

    Returns:
        The same shape. A class has the probability that it had times its mean in the image, but for a factor of the
        pixel.
    """
    background, classes = probabilities[..., :1], probabilities[..., 1:]
    weighted = classes * tf.reduce_mean(classes, axis=(1, 2), keepdims=True)
    share = tf.math.divide_no_nan(weighted, tf.reduce_sum(weighted, axis=-1, keepdims=True))
    return tf.concat([background, share * tf.reduce_sum(classes, axis=-1, keepdims=True)], axis=-1)


def serving_function(functions: Mapping[str, Callable]) -> Callable:
    """The signature for servers: encoded images of any sizes in, small answers out.

    Args:
        functions: From `attention_functions` or `segmentation_functions`.

    Returns:
        A `tf.function` from `image_bytes`, string `[batch]`, each a JPEG or PNG, to a dictionary. Of a segmentation
        network: `mask_bytes`, string `[batch]`, 8-bit grey PNGs of the images' sizes (0 background, c + 1 class c), and
        `shares`, float32 `[batch, C + 1]`, the share of the pixels that each has. Of a class-aware network:
        `attention_bytes`, string `[batch, C]`, 8-bit grey PNGs, value / 255 being the attention, and `scores`, float32
        `[batch, C]`. TensorFlow Serving writes what ends in `_bytes` as base64.
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

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes):
        return tf.map_fn(lambda data: answer(decode_image(data)[tf.newaxis]), image_bytes, fn_output_signature=outputs)

    return serve


def to_image(maps: tf.Tensor, content: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resamples maps on the grid bilinearly to the image's pixels; the in-graph `Frame.to_image`.

    Args:
        maps: float32 `[batch, rows, columns, channels]`.
        content: int32 `[2]`, size of the resized image.
        size: int32 `[2]`, size of the image.

    Returns:
        float32 `[batch, size[0], size[1], channels]`.
    """
    return tf.transpose(_interpolated(maps, content, size), [0, 2, 3, 1])


def _interpolated(maps: tf.Tensor, content: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """As `to_image`, but `[batch, channels, size[0], size[1]]`, in which order it is faster."""
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
    """Planes with other numbers of rows and columns.

    oneDNN's product of several matrices with a single one writes beyond its result when there is an axis of length 1
    (TensorFlow 2.21, github.com/tensorflow/tensorflow/issues/117700). So one of these products is of two matrices, and
    the other one of equally many on both sides. `tensordot` would do for the first, but LiteRT does not convert its
    reshaping to more than one unknown size.

    Args:
        planes: `[batch, channels, height, width]`.
        rows: `[new height, height]`, what each new row takes of the old ones.
        columns: `[new width, width]`.

    Returns:
        `[batch, channels, new height, new width]`.
    """
    batch, channels, height, width = tf.unstack(tf.shape(planes))
    new_height, new_width = tf.shape(rows)[0], tf.shape(columns)[0]
    # Columns first: the result of the first product is the smaller, the fewer rows it has.
    wide = tf.linalg.matmul(tf.reshape(planes, [-1, width]), columns, transpose_b=True)
    wide = tf.reshape(wide, [batch * channels, height, new_width])
    resampled = tf.tile(rows[tf.newaxis], [batch * channels, 1, 1]) @ wide
    resampled = tf.reshape(resampled, [batch, channels, new_height, new_width])
    resampled.set_shape([*planes.shape[:2], None, None])
    return resampled


def _first_of_the_greatest(scores: tf.Tensor) -> tf.Tensor:
    """`tf.argmax` over the second of four axes, which has at most 255 entries, as uint8; faster than TensorFlow's."""
    num_channels = scores.shape[1]
    is_greatest = tf.cast(scores >= tf.reduce_max(scores, axis=1, keepdims=True), tf.uint8)
    descending = tf.reshape(tf.range(num_channels, 0, -1), [-1, 1, 1])
    return tf.cast(num_channels, tf.uint8) - tf.reduce_max(is_greatest * tf.cast(descending, tf.uint8), axis=1)


@dataclasses.dataclass(frozen=True)
class _View:
    """What the network says of images in one size, mirrored or not.

    Attributes:
        scores: The network's output.
        valid: bool, the cells of its grid that show the image.
        content: int32 `[2]`, the size of the resized images.
        size: int32 `[2]`, that of the images.
        mirrored: Whether they are mirrored.
    """

    scores: tf.Tensor
    valid: tf.Tensor
    content: tf.Tensor
    size: tf.Tensor
    mirrored: bool

    def to_images(self, maps: tf.Tensor) -> tf.Tensor:
        """Maps on the grid as maps of the images, as `to_image`."""
        maps = to_image(maps, self.content, self.size)
        return tf.reverse(maps, axis=[2]) if self.mirrored else maps


def _views(
    network: keras.Model, image_size: int, looks: Sequence[tuple[float, bool]], portable: bool, images: tf.Tensor
) -> Iterator[_View]:
    size = tf.shape(images)[1:3]
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    resize = _resized if portable else functools.partial(tf.image.resize, antialias=True)
    for scale, mirrored in looks:
        content = frame_content(height, width, round(scale * image_size))
        resized = resize(tf.reverse(images, axis=[2]) if mirrored else images, content)
        # Up to the next multiple of the stride, with the color that is zero after preprocessing. Not
        # `-content % STRIDE`, which tf2onnx turns into a remainder below zero.
        margin = (STRIDE - content % STRIDE) % STRIDE
        mean = tf.constant(MEAN_RGB)
        padded = tf.pad(resized - mean, [[0, 0], [0, margin[0]], [0, margin[1]], [0, 0]]) + mean
        scores = network(padded, training=False)
        longest = tf.reduce_max(tf.shape(scores)[1:3])
        valid = frame_valid_cells(tf.tile(content[tf.newaxis], [batch, 1]), longest)
        yield _View(scores, valid[:, : tf.shape(scores)[1], : tf.shape(scores)[2]], content, size, mirrored)


def _resized(images: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """`tf.image.resize(images, size, antialias=True)` as products of matrices."""
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
