"""Attention maps: from score maps, through gates and fusion, into the table and onto the disk."""
