"""Who is in the stack and who leads it."""
