"""OAA-TF: weakly-supervised segmentation by online attention accumulation, in TensorFlow and Keras.

The names of `__all__` are imported when they are first used, so that `import oaa_tf` takes no time.
"""

import importlib
import os
import sys

HELP_FLAGS = ("--help", "-help", "-h", "--helpshort", "--helpfull", "-helpfull")

_HOMES = {
    "AttentionClassifier": "models.classifier",
    "AttentionMaps": "attention.map_files",
    "CumulativeAttention": "attention.table",
    "DeepLabLargeFOV": "models.largefov",
    "HybridLoss": "models.losses",
    "IntegralAttentionModel": "models.integral",
    "PseudoLabelOptions": "labels.rules",
    "RecordSet": "data.records.record_set",
    "Segmenter": "models.segmenter",
    "ViewOptions": "data.views.view",
    "attention_targets": "train_integral",
    "class_activation_maps": "attention.cam",
    "class_aware_network": "models.class_aware",
    "class_scores": "attention.cam",
    "confident_label": "relabel",
    "confusion_matrix": "metrics",
    "export_network": "export",
    "extract_attention": "training.extraction",
    "largefov_network": "models.largefov",
    "load_model": "training.keras_files",
    "mean_iou": "metrics",
    "paper_optimizer": "training.optimizer",
    "pseudo_label": "labels.rules",
    "resnet101_backbone": "models.resnet",
    "segmentation_targets": "train_seg",
    "training_batches": "data.views.input_pipeline",
    "vgg16_backbone": "models.vgg",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _import_tensorflow_quietly() -> None:
    """Imports TensorFlow without its start-up messages.

    TF_CPP_MIN_LOG_LEVEL alone does not silence them: some are written before logging is set up.
    """
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


# Only for commands (`python -m oaa_tf.x`, `python -m tools.x`, `oaa-x`): help without TensorFlow, and everything else
# without its messages, unless the user asks for them.
_is_command = sys.argv[:1] == ["-m"] or os.path.basename((sys.argv or [""])[0]).startswith("oaa-")
if _is_command and not set(HELP_FLAGS).isdisjoint(sys.argv[1:]):
    from oaa_tf.stand_in import do_without_tensorflow

    do_without_tensorflow()
elif _is_command and "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    _import_tensorflow_quietly()
