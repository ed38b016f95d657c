"""Lengths of time and moments on a command line."""

import re
from datetime import UTC, date, datetime

from penstock.core.errors import InputError

_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LONGEST_S = 100 * 366 * 86_400.0


def today() -> date:
    """Return today's date in UTC."""
    return datetime.now(UTC).date()


def read_duration_s(option: str, text: str) -> float:
    """Return the seconds of a text such as 30d, 24h, 15m or 90s. Raises InputError."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])", text)
    duration_s = float(found[1]) * _UNIT_S[found[2]] if found else -1.0
    if not 0.0 <= duration_s <= _LONGEST_S:
        raise InputError(f"{option}: found {text[:40]!r}; expected a length of time such as 30d, "
                         "24h or 15m")
    return duration_s


def read_moment_s(option: str, text: str, now_s: float) -> float:
    """Return the moment, in seconds since 1970, of a length of time from now or of a date (its
    first second in UTC, or with a time of day). Raises InputError for a moment that has passed."""
    if re.fullmatch(r"\S{1,30}[smhd]", text):
        at_s = now_s + read_duration_s(option, text)
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise InputError(f"{option}: found {text[:40]!r}; expected a length of time such as "
                             "30d, or a date such as 2027-01-31") from None
        at_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if at_s <= now_s:
        raise InputError(f"{option}: {text[:40]} has passed")
    return at_s


def show_moment(at_s: float | None) -> str:
    """Return a moment in UTC, empty for None."""
    if at_s is None:
        return ""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
