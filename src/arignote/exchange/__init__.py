"""How a flat vector is averaged over the workers: a route (the way) x a codec (the format)."""
