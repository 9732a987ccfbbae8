"""Canonical frame, canvases, augmented views with exact inverses, and the tf.data pipeline that makes batches.

Belongs here: geometry and order, both pure functions of the seed. Belongs elsewhere: files.
"""
