"""Who is in the stack, who leads it, and what each node may draw."""
