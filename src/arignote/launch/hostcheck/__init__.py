"""Checks of all hosts of a job: what each has, how they differ, how fast the links are."""
