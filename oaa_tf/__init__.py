"""OAA-TF: weakly-supervised segmentation by online attention accumulation, in TensorFlow and Keras.

The names of `__all__` are imported when they are first used, so that `import oaa_tf` takes no time.
"""

import importlib

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
    "ViewOptions": "data.views.view_options",
    "attention_targets": "attention.targets",
    "class_activation_maps": "attention.cam",
    "class_aware_network": "models.class_aware",
    "class_scores": "attention.cam",
    "confident_label": "labels.rules",
    "confusion_matrix": "metrics",
    "export_network": "models.exported",
    "extract_attention": "training.extraction",
    "largefov_network": "models.largefov",
    "load_model": "training.keras_files",
    "mean_iou": "metrics",
    "paper_optimizer": "training.optimizer",
    "pseudo_label": "labels.rules",
    "resnet101_backbone": "models.resnet",
    "segmentation_targets": "data.views.targets",
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
