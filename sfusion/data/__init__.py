"""Data: what a task is, the readers behind it, splits and the documentation corpora."""
