"""Class activation maps, gates, fusion, the table of cumulative attention, and attention maps on disk.

Belongs here: everything between score maps and attention maps. Belongs elsewhere: networks (`models`) and rules for
labels (`labels`).
"""
