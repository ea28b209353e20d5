"""`python -m byokd` is the `byokd` command."""

from byokd.cli.main import main

main()
