"""Pruning: fusion and strategies choose a layer, the tree trains and evaluates without it."""
