"""Image files: photos, masks and saliency maps, decoded and encoded.

Belongs here: everything that touches the bytes of one image file. Does not: which files there are (`formats`).
"""
