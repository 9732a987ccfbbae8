"""The formats of photos with tags and masks that `make_records` reads: VOC, COCO, lists, a folder for each class.

Belongs here: a reader for each format, which makes a `Source`. Belongs elsewhere: decoding images (`images`), writing
records.
"""
