"""The ways in which people bring photos with tags and masks: VOC, COCO, CSV, a folder for each class.

Belongs here: a reader for each format, all as a `Source`. Does not: decoding of images (`images`), writing of records.
"""
