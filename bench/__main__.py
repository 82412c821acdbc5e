"""`python -m layerbench.bench` is the command `layerbench`."""

from .cli import main

main()
