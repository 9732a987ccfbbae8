"""Networks, losses and training steps, and what rebuilds, exports and applies a trained network.

Belongs here: everything that computes with weights. Belongs elsewhere: the training loop (`training`).

Importing it registers its classes with Keras, so that `keras.saving.load_model` finds them.
"""

from oaa_tf.models.affinity import AffinityModel, affinity_network
from oaa_tf.models.attention_drop import AttentionDrop
from oaa_tf.models.class_aware import class_aware_network
from oaa_tf.models.classifier import AttentionClassifier
from oaa_tf.models.convolution import Convolution
from oaa_tf.models.exported import export_network
from oaa_tf.models.initializers import CenteredHeNormal
from oaa_tf.models.integral import IntegralAttentionModel
from oaa_tf.models.largefov import DeepLabLargeFOV, largefov_network
from oaa_tf.models.mean_teacher import MeanTeacher
from oaa_tf.models.networks import load_network
from oaa_tf.models.optimizer import CaffeSGD, LayerwiseAdamW, paper_optimizer
from oaa_tf.models.output_stride import at_output_stride, copy_weights
from oaa_tf.models.preprocessing import CaffePreprocessing
from oaa_tf.models.pretrained import load_backbone_weights, load_head_weights
from oaa_tf.models.recompute import recomputed
from oaa_tf.models.resnet import resnet101_backbone
from oaa_tf.models.segmenter import Segmenter
from oaa_tf.models.vgg import vgg16_backbone

__all__ = [
    "AffinityModel",
    "AttentionClassifier",
    "AttentionDrop",
    "CaffePreprocessing",
    "CaffeSGD",
    "CenteredHeNormal",
    "Convolution",
    "DeepLabLargeFOV",
    "IntegralAttentionModel",
    "LayerwiseAdamW",
    "MeanTeacher",
    "Segmenter",
    "affinity_network",
    "at_output_stride",
    "class_aware_network",
    "copy_weights",
    "export_network",
    "largefov_network",
    "load_backbone_weights",
    "load_head_weights",
    "load_network",
    "paper_optimizer",
    "recomputed",
    "resnet101_backbone",
    "vgg16_backbone",
]
