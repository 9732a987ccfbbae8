"""Refinement of maps and predictions by the colors of the image, in the graph."""
