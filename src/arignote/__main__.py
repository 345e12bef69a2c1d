"""`python -m arignote`."""

from arignote.cli import main

main()
