"""Pruning: strategies and fusions choose layers, the tree trains without them."""
