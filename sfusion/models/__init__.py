"""Models: the table of architectures, loading and fingerprints, layer removal and size."""
