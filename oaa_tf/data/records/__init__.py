"""Record sets: TFRecords with a manifest that can tell damage.

Belongs here: their writing, reading and keys. Does not: augmentation and batches (`views`).
"""
