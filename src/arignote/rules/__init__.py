"""When workers exchange, with whom, and how what they get is mixed in; one file a rule."""
