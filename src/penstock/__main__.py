"""``penstock`` and ``python -m penstock``: an interrupt of their imports is told, too."""

import gc
import os
import sys


def start() -> int:
    """Run the command line of this process; the exit status."""
    # Modules and tables stay: importing them makes 150,000 objects, and no search for cycles among
    # them finds any.
    gc.set_threshold(250_000, 10, 100)
    # Matrices are small here, and a second thread of numpy's library mostly waits, at full load.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
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
