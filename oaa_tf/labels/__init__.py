"""From attention maps to label maps: rules, refinement (CRF, PAMR), and folders of pseudo labels.

Belongs here: pseudo labels, whether from attention or from a network. Belongs elsewhere: attention (`attention`) and
networks (`models`).
"""
