"""The embedded world: eight products, drawn from seeds."""
