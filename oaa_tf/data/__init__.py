"""Data on disk and on the way to the network."""
