"""Many workers of one host are forked from a process that has imported everything once."""
