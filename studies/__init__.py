"""What is measured besides the pruning study, a module each; run by the same runner."""
