"""`python -m eventfm.cli`, for launchers such as torchrun."""

from eventfm.cli import main

main()
