"""Compression of a user's own classifier: one tree, one strategy, a depth, an export."""
