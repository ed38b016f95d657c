"""Functions of heapq and bisect for code that calls them all the time.

Native code reads a final name at once. A name imported from Python it looks up at each call.
"""

import bisect
import heapq
from typing import Final

heapify: Final = heapq.heapify
heappop: Final = heapq.heappop
heappush: Final = heapq.heappush
heapreplace: Final = heapq.heapreplace
insort: Final = bisect.insort
