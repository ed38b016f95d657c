"""``penstock`` and ``python -m penstock``: an interrupt of their imports is told, too."""

import gc
import sys


def start() -> int:
    """Run the command line of this process; the exit status."""
    # Modules and tables stay, so frequent searches for cycles among them find nothing.
    gc.set_threshold(100_000, 10, 100)
    try:
        from penstock.cli.main import main

        return main()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        return 130  # as INTERRUPTED, which may not be imported yet
    finally:
        # The end of the process frees everything. A last search for cycles would only take time.
        gc.disable()
        gc.freeze()


if __name__ == "__main__":
    sys.exit(start())
