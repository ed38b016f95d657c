"""Penstock's commands as processes of their own, which can be killed."""

import os
import subprocess
import sys
from contextlib import contextmanager


@contextmanager
def process(repository, folder, *arguments, environment=None):
    environment = {**os.environ, "PYTHONPATH": str(repository / "src"), **(environment or {})}
    with subprocess.Popen([sys.executable, "-m", "penstock", *arguments], env=environment,
                          cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as found:
        try:
            yield found
        finally:
            found.kill()
