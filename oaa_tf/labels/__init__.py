"""From attention maps to label maps: rules, refinement (CRF, PAMR), and the files that labels are kept in.

Belongs here: pseudo labels, whatever makes them. Does not: attention itself, networks.
"""
