"""The ways that the bytes of a vector can take; one file a route."""
