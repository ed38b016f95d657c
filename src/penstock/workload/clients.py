"""Traffic of many clients over days, drawn from windows of each client's rate and gaps.

The form is ServeGen's (arXiv 2505.09999; alibaba/ServeGen): a client has, for each window of time,
a rate and a family of gaps (gamma or Weibull) with a shape, and quantiles of prompt and output
lengths that hold until its next ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gamma
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.workload.arrivals import BLOCK_REQUESTS, MAX_REQUESTS
from penstock.workload.streams import stream
from penstock.workload.trace import Labels, Trace, joined_traces, no_prefixes
from penstock.workload.workload import FloatColumn, IntColumn

GAMMA, WEIBULL = 0, 1


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of one client, by time: begin from the start of the file, requests per second, and
    the family and shape of gaps."""

    start_s: FloatColumn
    rate_per_s: FloatColumn
    family: NDArray[np.int8]
    shape: FloatColumn


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of one length over time: row i, at the file's levels, holds from ``from_s[i]``
    on."""

    from_s: FloatColumn
    tokens: NDArray[np.float64]

    def at(self, times_s: FloatColumn) -> IntColumn:
        """Return the row that holds at each time; before the first, the first."""
        found = np.searchsorted(self.from_s, times_s, "right") - 1
        return np.maximum(found, 0)


@dataclass(frozen=True, slots=True)
class ClientTraffic:
    """Clients by name, with their windows, and their prompt and output lengths at ``levels`` (from
    0 to 1). A client without lengths takes those of the others, each as often as it sends."""

    windows: Mapping[str, Windows]
    prompt: Mapping[str, Quantiles]
    output: Mapping[str, Quantiles]
    levels: FloatColumn
    window_s: float
    span_s: float
    source: str = ""

    @property
    def rate_per_s(self) -> float:
        """Mean rate of all clients over the whole span."""
        return sum(float(one.rate_per_s.sum()) for one in self.windows.values()
                   ) * self.window_s / self.span_s

    @property
    def max_output_tokens(self) -> int:
        """The longest output that any client can be given."""
        return int(max(np.rint(one.tokens.max()) for one in self.output.values()))

    def trace(self, seed: int, name: str, rate_per_s: float | None = None,
              duration_s: float | None = None, from_s: float = 0.0) -> Trace:
        """Return all requests of ``blocks`` as one trace."""
        return joined_traces(list(self.blocks(seed, name, rate_per_s, duration_s, from_s)))

    def expected(self, rate_per_s: float | None, duration_s: float | None, from_s: float) -> float:
        """Return how many requests ``blocks`` draws in the mean."""
        mean_per_s = self.rate_per_s if rate_per_s is None else rate_per_s
        return mean_per_s * (self._end_s(duration_s, from_s) - from_s)

    def blocks(self, seed: int, name: str, rate_per_s: float | None = None,
               duration_s: float | None = None, from_s: float = 0.0) -> Iterator[Trace]:
        """Draw requests from ``from_s`` of the file on, with clients as tenants, in traces of
        consecutive windows.

        The rates of all clients are multiplied so that their mean over the whole file is
        ``rate_per_s``; None keeps them. Gaps keep their variation. Each client has random streams
        of its own, so it sends the same beside other clients. Raises InputError where no request
        or too many are drawn.
        """
        expected = self.expected(rate_per_s, duration_s, from_s)
        if expected > MAX_REQUESTS:
            raise InputError(f"{self.source}: about {expected:,.0f} requests; expected at most "
                             f"{MAX_REQUESTS:,}; lower rate_per_s or duration_s")
        factor = 1.0 if rate_per_s is None else rate_per_s / self.rate_per_s
        end_s = self._end_s(duration_s, from_s)
        drawing = [_Drawing(client, windows, stream(seed, f"{name} {client}", "arrivals"),
                            stream(seed, f"{name} {client}", "lengths"))
                   for client, windows in self.windows.items()]
        num_drawn = 0
        for span in self._spans(factor, from_s, end_s):
            found = self._drawn(drawing, factor, span, from_s, end_s)
            num_drawn += len(found)
            if len(found):
                yield found
        if not num_drawn:
            raise InputError(f"{self.source}: no request is drawn from {from_s:g} to {end_s:g} s")

    def _end_s(self, duration_s: float | None, from_s: float) -> float:
        return self.span_s if duration_s is None else min(self.span_s, from_s + duration_s)

    def _spans(self, factor: float, from_s: float, end_s: float) -> list[tuple[float, float]]:
        """Return the spans of time of the blocks, of whole windows. No window reaches beyond the
        beginning of another client's next one, since ``window_s`` is the least gap of begins."""
        starts_s = np.concatenate([one.start_s for one in self.windows.values()])
        rates = np.concatenate([one.rate_per_s for one in self.windows.values()])
        edges_s, place = np.unique(starts_s, return_inverse=True)
        expected = np.bincount(place.reshape(-1), rates) * factor * self.window_s
        wanted = (edges_s + self.window_s > from_s) & (edges_s < end_s)
        edges_s, expected = edges_s[wanted], expected[wanted]
        number = np.floor(np.cumsum(expected) / BLOCK_REQUESTS)
        begins_s = edges_s[np.flatnonzero(np.diff(number, prepend=-1.0))].tolist()
        return list(zip(begins_s, [*begins_s[1:], np.inf], strict=True))

    def _drawn(self, drawing: "Sequence[_Drawing]", factor: float, span: tuple[float, float],
               from_s: float, end_s: float) -> Trace:
        """Return the requests of the windows that begin in a span."""
        times = [self._times(one, factor, span, from_s, end_s) for one in drawing]
        index = np.repeat(np.arange(len(drawing)), [len(one) for one in times])
        arrival_s = np.concatenate(times)
        lengths = [np.concatenate(drawn) for drawn in zip(*(
            self._lengths(one.client, own, one.lengths)
            for one, own in zip(drawing, times, strict=True)), strict=True)]
        order = np.argsort(arrival_s, kind="stable")
        return Trace(arrival_s[order] - from_s, lengths[0][order], lengths[1][order], None,
                     Labels(tuple(f"client-{one.client}" for one in drawing), index[order]), None,
                     no_prefixes(), source=self.source)

    def _times(self, one: "_Drawing", factor: float, span: tuple[float, float], from_s: float,
               end_s: float) -> FloatColumn:
        """Return the arrival times of a client in the windows that begin in a span."""
        windows = one.windows
        own = slice(*np.searchsorted(windows.start_s, span).tolist())
        found = [np.zeros(0)]
        for start_s, rate_per_s, family, shape in zip(
                windows.start_s[own].tolist(), windows.rate_per_s[own].tolist(),
                windows.family[own].tolist(), windows.shape[own].tolist(), strict=True):
            rate = factor * rate_per_s
            if rate > 0.0 and start_s + self.window_s > from_s and start_s < end_s:
                found.append(start_s + renewals(one.arrivals, rate * self.window_s, family, shape)
                             / rate)
        times = np.concatenate(found)
        return times[(times >= from_s) & (times < end_s)]

    def _lengths(self, client: str, times_s: FloatColumn, rng: np.random.Generator
                 ) -> tuple[IntColumn, IntColumn]:
        """Return drawn prompt and output lengths of a client's requests. All numbers of a request
        are drawn together, so that blocks may have any length."""
        own = client in self.prompt and client in self.output
        shares = rng.random((len(times_s), 2 if own else 3))
        if own:
            return (self._tokens(self.prompt[client], times_s, shares[:, 0]),
                    self._tokens(self.output[client], times_s, shares[:, 1]))
        # The lengths of a client that has some, drawn by the clients' numbers of requests.
        known = [one for one in self.windows if one in self.prompt and one in self.output]
        weights = np.cumsum([float(self.windows[one].rate_per_s.sum()) for one in known])
        chosen = np.searchsorted(weights[:-1], shares[:, 2] * weights[-1], "right")
        prompt, output = (np.zeros(len(times_s), np.int64) for _ in range(2))
        for number in np.unique(chosen).tolist():
            rows = chosen == number
            for column, tables, drawn in ((prompt, self.prompt, shares[:, 0]),
                                          (output, self.output, shares[:, 1])):
                column[rows] = self._tokens(tables[known[number]], times_s[rows], drawn[rows])
        return prompt, output

    def _tokens(self, table: Quantiles, times_s: FloatColumn, shares: FloatColumn) -> IntColumn:
        """Return the tokens at shares of the quantiles that hold at each time; at least 1."""
        rows = table.at(times_s)
        upper = np.clip(np.searchsorted(self.levels, shares, "right"), 1, len(self.levels) - 1)
        low, high = self.levels[upper - 1], self.levels[upper]
        below, above = table.tokens[rows, upper - 1], table.tokens[rows, upper]
        found = below + (above - below) * (shares - low) / (high - low)
        return np.maximum(1, np.rint(found)).astype(np.int64)


class _Drawing(NamedTuple):
    """A client that is drawn, with the random streams of its arrivals and of its lengths."""

    client: str
    windows: Windows
    arrivals: np.random.Generator
    lengths: np.random.Generator


def renewals(rng: np.random.Generator, expected: float, family: int, shape: float) -> FloatColumn:
    """Return the times of a stationary renewal process with gaps of mean 1, up to ``expected``.

    The first gap is the remainder of a length-biased one, so that ``expected`` arrivals come in the
    mean however the gaps vary (Cox, Renewal Theory, 1962, section 5.2). A length-biased gamma gap
    has a shape larger by 1; of a Weibull gap X, X^shape is a gamma variable of shape 1 + 1/shape.
    """
    found: list[FloatColumn] = []
    reached, block = 0.0, int(expected + 4.0 * np.sqrt(expected)) + 8
    while reached <= expected:
        gaps = _gaps(rng, block, family, shape)
        if not found:
            gaps[0] = _length_biased(rng, family, shape) * rng.random()
        gaps[0] += reached
        found.append(np.cumsum(gaps))
        reached, block = float(found[-1][-1]), max(block // 2, 8)
    times = np.concatenate(found)
    return times[:int(np.searchsorted(times, expected, "left"))]


def _gaps(rng: np.random.Generator, num: int, family: int, shape: float) -> FloatColumn:
    if family == WEIBULL:
        return rng.weibull(shape, num) / _weibull_mean(shape)
    return rng.standard_gamma(shape, num) / shape


def _length_biased(rng: np.random.Generator, family: int, shape: float) -> float:
    if family == WEIBULL:
        power = float(rng.standard_gamma(1.0 + 1.0 / shape))
        return float(power ** (1.0 / shape)) / _weibull_mean(shape)
    return float(rng.standard_gamma(shape + 1.0)) / shape


def _weibull_mean(shape: float) -> float:
    return gamma(1.0 + 1.0 / shape)
