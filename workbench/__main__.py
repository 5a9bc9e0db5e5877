"""`python -m workbench` is the `workbench` command, for where scripts are not on the PATH."""

from workbench.cli import main

main()
