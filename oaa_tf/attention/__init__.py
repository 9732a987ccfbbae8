"""Class activation maps, gates, fusion, the table of cumulative attention, and attention maps on disk.

Belongs here: everything between score maps and attention maps. Belongs elsewhere: networks (`models`) and rules for
labels (`labels`).
"""

from oaa_tf import public_names

__all__, __getattr__, __dir__ = public_names(
    __name__,
    {
        "AttentionMaps": "map_files",
        "CumulativeAttention": "table",
        "attention_targets": "targets",
        "class_activation_maps": "cam",
        "class_scores": "cam",
        "extract_attention": "extraction",
        "open_gate": "gates",
        "random_walk": "affinity",
    },
)
