"""Models: the table of architectures, their files, layer removal and size."""
