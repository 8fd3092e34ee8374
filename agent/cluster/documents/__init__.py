"""What all nodes of a stack share and any of them may change."""
