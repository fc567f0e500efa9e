"""`python -m trustvlm.cli`, for where the `trustvlm` script is not on the PATH."""

from trustvlm.cli import main

if __name__ == "__main__":
    main(prog_name="trustvlm")
