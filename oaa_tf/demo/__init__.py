"""The painter of the demo's photos, masks and saliency maps.

Belongs here: invented objects and scenes. Does not: anything that real photos need.
"""
