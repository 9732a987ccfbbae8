"""Class activation maps, gates, fusion, the table of cumulative attention, and the files that maps are kept in.

Belongs here: everything between score maps and attention maps. Does not: networks (`models`) and rules for labels
(`labels`).
"""
