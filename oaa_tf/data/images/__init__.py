"""Image files: photos, masks and saliency maps, decoded and encoded.

Belongs here: everything that touches the bytes of one image file. Belongs elsewhere: which files there are (`formats`).
"""
