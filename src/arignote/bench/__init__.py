"""Benches: our exchanges and steps beside what others offer, timed in one run."""
