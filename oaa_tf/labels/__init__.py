"""From attention maps to label maps: rules, refinement (CRF, PAMR), and folders of pseudo labels.

Belongs here: pseudo labels, whether from attention or from a network. Belongs elsewhere: attention (`attention`) and
networks (`models`).
"""

from oaa_tf import public_names

__all__, __getattr__, __dir__ = public_names(
    __name__,
    {
        "PseudoLabelOptions": "rules",
        "PseudoLabels": "label_files",
        "confident_label": "rules",
        "pseudo_label": "rules",
    },
)
