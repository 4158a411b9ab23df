"""Pruning: fusion and strategies choose a layer, the pruning tree trains and evaluates without it."""
