"""`python -m paredown`, the same as the command `paredown`."""

from paredown.cli import main

if __name__ == "__main__":
    main()
