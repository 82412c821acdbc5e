"""`python -m layerbench.bench` is the command `layerbench`."""

from .cli.main import main

main()
