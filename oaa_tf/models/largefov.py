"""DeepLab-LargeFOV (Chen et al., ICLR 2015), the segmentation network of the paper's Sec. 4.1."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from oaa_tf.data.records import keys
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.losses import segmentation_loss
from oaa_tf.models.convolution import Convolution
from oaa_tf.models.initializers import INITIALIZERS
from oaa_tf.models.preprocessing import caffe_preprocessing
from oaa_tf.models.trained_network import Batch, TrainedNetwork


def largefov_network(
    backbone: keras.Model,
    num_classes: int,
    *,
    initializer: str = "gaussian",
    preprocess: Callable[[Any], Any] = caffe_preprocessing,
    channels: int = 1024,
    dropout: float = 0.5,
    seed: int = 0,
) -> keras.Model:
    """Builds the network from images to segmentation logits at stride 8.

    Args:
        backbone: From preprocessed images to features, such as `oaa_tf.models.backbones.Backbone.build` makes.
        num_classes: Number of foreground classes C.
        initializer: One of `INITIALIZERS`, for fc6 and fc7. The score kernel is small, biases are 0.
        preprocess: Turns RGB images in [0, 255] into the input of the backbone; by default that of VGG16.
        channels: Channels of fc6 and fc7.
        dropout: Rate of the dropout after fc6 and fc7.
        seed: Seed of the dropout; its state changes with every step and belongs in checkpoints.

    Returns:
        A model from RGB images in [0, 255], float32 `[batch, height, width, 3]`, to logits, float32
        `[batch, height / 8, width / 8, C + 1]`, background first.
    """
    images = keras.Input((None, None, 3), name="images")
    x = backbone(preprocess(images))
    # fc6: 3x3 with dilation 12, the large field of view; fc7: 1x1.
    for index, (name, kernel, dilation) in enumerate((("fc6", 3, 12), ("fc7", 1, 1))):
        x = Convolution(
            channels,
            kernel,
            padding="same",
            dilation_rate=dilation,
            activation="relu",
            kernel_initializer=INITIALIZERS[initializer](),
            name=name,
        )(x)
        x = keras.layers.Dropout(dropout, seed=seed + index, name=f"{name}_dropout")(x)
    small = INITIALIZERS["gaussian"]()
    logits = Convolution(num_classes + 1, 1, kernel_initializer=small, dtype="float32", name="score")(x)
    return keras.Model(images, logits, name="deeplab_largefov")


@keras.saving.register_keras_serializable(package="oaa_tf")
class DeepLabLargeFOV(TrainedNetwork):
    """Trains a segmentation network on label maps with ignored pixels.

    Batches hold `keys.IMAGE` and `keys.SEGMENTATION`, uint8 `[batch, height, width]`, 255 for ignored pixels.

        model = DeepLabLargeFOV(largefov_network(vgg16_backbone(), num_classes=20))
        model.compile(optimizer)
        model.fit(batches)
    """

    required_keys: ClassVar[tuple[str, ...]] = (keys.IMAGE, keys.SEGMENTATION)

    def __init__(self, network: keras.Model, *, label_weights: Sequence[float] = (), **kwargs) -> None:
        """Wraps a network from `largefov_network`; for `label_weights`, see `segmentation_loss`."""
        super().__init__(network, **kwargs)
        self.label_weights = tuple(label_weights)
        self.pixel_accuracy = keras.metrics.Mean(name="pixel_accuracy")

    def compute_loss_of(self, batch: Batch, training: bool = True) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The segmentation loss, as the mean over labelled pixels."""
        labels = tf.cast(batch[keys.SEGMENTATION], tf.int32)
        logits = resized(self.network(batch[keys.IMAGE], training=training), labels)
        num_labelled = tf.reduce_sum(tf.cast(labels != IGNORE_LABEL, tf.float32))
        return segmentation_loss(logits, labels, self.label_weights), num_labelled, logits

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"label_weights": self.label_weights}

    def targets_and_predictions(self, batch: Batch, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Class numbers, int32 `[n]`, and probabilities, float32 `[n, C + 1]`, of all labelled pixels."""
        labels = tf.cast(batch[keys.SEGMENTATION], tf.int32)
        labelled = labels != IGNORE_LABEL
        probabilities = tf.nn.softmax(resized(scores, labels))
        return tf.boolean_mask(labels, labelled), tf.boolean_mask(probabilities, labelled)

    def measure(self, batch: Batch, scores: tf.Tensor) -> None:
        """Also measures the accuracy on labelled pixels."""
        super().measure(batch, scores)
        labels = tf.cast(batch[keys.SEGMENTATION], tf.int32)
        correct = tf.argmax(scores, axis=-1, output_type=tf.int32) == labels
        self.pixel_accuracy.update_state(correct, sample_weight=tf.cast(labels != IGNORE_LABEL, tf.float32))


def resized(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The logits at the size of the label maps."""
    return tf.image.resize(logits, tf.shape(labels)[1:3])
