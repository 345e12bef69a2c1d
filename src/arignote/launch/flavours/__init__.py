"""Each MPI's launcher: its command line, and how to read what it says; one file a launcher."""
