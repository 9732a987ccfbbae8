"""The painter of the demo's photos, masks and saliency maps.

Belongs here: invented objects and scenes. Belongs elsewhere: anything that real photos need.
"""
