"""``python -m phisight``."""

from phisight.cli import main

if __name__ == "__main__":
    main()
