"""``penstock`` and ``python -m penstock``: an interrupt of their imports is told, too."""

import sys


def start() -> int:
    """Run the command line of this process; the exit status."""
    try:
        from penstock.cli.main import main

        return main()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        return 130  # as INTERRUPTED, which may not be imported yet


if __name__ == "__main__":
    sys.exit(start())
