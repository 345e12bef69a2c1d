"""The loop, its schedule, and the replica for loops that users already have."""
