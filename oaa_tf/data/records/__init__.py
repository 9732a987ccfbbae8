"""Record sets: TFRecords with a manifest that reveals damage.

Belongs here: writing and reading them, and their keys. Belongs elsewhere: augmentation and batches (`views`).
"""
