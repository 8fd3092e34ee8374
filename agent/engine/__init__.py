"""From tokens to logits to text: what an engine is, and the engines."""
