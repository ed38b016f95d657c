"""A command on a terminal of a given size, and what that terminal shows in the end."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

_TOKEN = re.compile(r"\x1b\[(?P<number>[0-9;?]*)(?P<code>[A-Za-z])|\x1b.|[^\x1b]", re.DOTALL)


def run_on_terminal(command, columns, folder, term="xterm"):
    """Run ``command`` in ``folder`` on a pseudo-terminal; everything it wrote there, as text."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "TERM": term},
                               stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    written = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        written += piece
    process.wait(timeout=60)
    os.close(terminal)
    return written.decode()


def screen(written, columns):
    """The lines that a VT100 shows, with all that rich's live displays need of its codes."""
    rows, row, column = [[]], 0, 0
    for token in _TOKEN.finditer(written):
        text, code = token[0], token["code"]
        if code == "A":
            row = max(0, row - int(token["number"] or 1))
        elif code == "K":
            rows[row] = [] if token["number"] == "2" else rows[row][:column]
        elif text == "\r":
            column = 0
        elif text == "\n":
            row += 1
        elif not text.startswith("\x1b"):
            if column == columns:
                row, column = row + 1, 0
            rows.extend([] for _ in range(row + 1 - len(rows)))
            rows[row].extend(" " * (column - len(rows[row])))
            rows[row][column:column + 1] = text
            column += 1
        rows.extend([] for _ in range(row + 1 - len(rows)))
    return ["".join(cells).rstrip() for cells in rows]
