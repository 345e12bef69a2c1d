"""`arignote prepare`: from image files or archives to shards of decoded images."""
