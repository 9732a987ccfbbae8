"""OAA-TF: weakly-supervised segmentation by online attention accumulation, in TensorFlow and Keras.

The public names are those of `oaa_tf.models`, `oaa_tf.losses`, `oaa_tf.attention`, `oaa_tf.labels`, `oaa_tf.data` and
`oaa_tf.metrics`. What notebooks need most is here as well, with the settings of every command and `UserError`. Names
are imported when they are first used, so that `import oaa_tf` takes no time.
"""

import importlib
import sys
from collections.abc import Callable, Mapping

_SUBMODULES = ("attention", "data", "labels", "losses", "metrics", "models")
_HOMES = {
    "AttentionClassifier": "models.classifier",
    "AttentionMaps": "attention.map_files",
    "ConvertSettings": "convert",
    "CumulativeAttention": "attention.table",
    "DeepLabLargeFOV": "models.largefov",
    "EvaluateSettings": "evaluate",
    "ExportSettings": "export",
    "HybridLoss": "losses",
    "IntegralAttentionModel": "models.integral",
    "MakeDemoDataSettings": "make_demo_data",
    "MakeMapsSettings": "make_maps",
    "MakePseudoLabelsSettings": "make_pseudo_labels",
    "MakeRecordsSettings": "make_records",
    "MakeReportSettings": "make_report",
    "MakeSaliencySettings": "make_saliency",
    "PipelineSettings": "pipeline",
    "PredictSettings": "predict",
    "PseudoLabelOptions": "labels.rules",
    "RecordSet": "data.records.record_set",
    "RelabelSettings": "relabel",
    "Segmenter": "models.segmenter",
    "TrainAffinitySettings": "train_affinity",
    "TrainClsSettings": "train_cls",
    "TrainIntegralSettings": "train_integral",
    "TrainSegSettings": "train_seg",
    "UserError": "command_line.errors",
    "ViewOptions": "data.views.view_options",
    "attention_targets": "attention.targets",
    "class_activation_maps": "attention.cam",
    "class_aware_network": "models.class_aware",
    "class_scores": "attention.cam",
    "confident_label": "labels.rules",
    "confusion_matrix": "metrics",
    "export_network": "models.exported",
    "extract_attention": "attention.extraction",
    "largefov_network": "models.largefov",
    "mean_iou": "metrics",
    "paper_optimizer": "models.optimizer",
    "pseudo_label": "labels.rules",
    "recomputed": "models.recompute",
    "resnet101_backbone": "models.resnet",
    "segmentation_targets": "data.views.targets",
    "training_batches": "data.views.input_pipeline",
    "vgg16_backbone": "models.vgg",
}


def public_names(
    package: str, homes: Mapping[str, str]
) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """`__all__`, `__getattr__` and `__dir__` of a package whose public names are imported when they are first used.

    Args:
        package: The package's name.
        homes: The module of each name, relative to the package; "" for a module of the package, which is not in
            `__all__`.
    """
    names = vars(sys.modules[package])

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{homes[name] or name}")
        names[name] = getattr(module, name) if homes[name] else module
        return names[name]

    return [name for name in homes if homes[name]], get, lambda: sorted({*names, *homes})


__all__, __getattr__, __dir__ = public_names(__name__, _HOMES | dict.fromkeys(_SUBMODULES, ""))

if "keras" in sys.modules:
    # Registers the classes that a Keras file may name. Without Keras, importing it would take seconds.
    importlib.import_module("oaa_tf.models")
