"""The folder that a command works in: who may write it, what it was begun with, and how files reach the disk.

Belongs here: work_dirs, `metrics.json`, JSON, atomic writes, threads. Belongs elsewhere: what is in images, maps or
networks.
"""
