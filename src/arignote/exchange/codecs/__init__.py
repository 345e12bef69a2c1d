"""The number formats that a vector can have on the wire; one file a codec."""
