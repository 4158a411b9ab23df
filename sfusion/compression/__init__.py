"""Compressing the user's own classifier: inputs, depth, export, times, report."""
