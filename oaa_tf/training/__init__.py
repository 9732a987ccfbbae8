"""A training stage from its settings to its metrics: loop, checkpoints, optimizer, summaries.

Belongs here: what the training stages share. Belongs elsewhere: what only one of them does, which is in its own
file.
"""
