"""HTTP in, values out: the only package that knows Flask."""
