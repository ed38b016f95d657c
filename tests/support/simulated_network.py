"""A network in memory for a ``SimulatedLoop``: servers, connections, delays, and broken ones.

aiohttp's own client and server run over it, unchanged. Bytes of one direction arrive in order,
late, and cut or joined at drawn places. A connection breaks where a process dies or hangs up.
"""

import asyncio
from collections import deque
from types import SimpleNamespace

from support.simulated_loop import PROCESS, in_context_of

_MOST_UNREAD_BYTES = 64 * 1024
HOST = "127.0.0.1"


class SimulatedNetwork:
    """Ports with their listeners. ``delays_s`` are the drawn delays of a packet."""

    def __init__(self, loop, delays_s=(0.0, 0.0, 0.0002, 0.001, 0.01)):
        self.loop = loop
        self.delays_s = delays_s
        self.silent = set()  # ports whose machine answers nobody
        self._listeners = {}
        self._ports = iter(range(40_000, 60_000))
        loop.create_server = self.create_server
        loop.create_connection = self.create_connection

    def delay_s(self):
        """One drawn delay."""
        return self.loop.random.choice(self.delays_s)

    async def create_server(self, factory, host=None, port=None, **_):
        """Takes the place of ``loop.create_server``."""
        port = port or next(self._ports)
        listener = self._listeners[port] = _Listener(self, factory, port, PROCESS.get())
        return listener

    def gone(self, listener):
        """A listener ends."""
        if self._listeners.get(listener.port) is listener:
            del self._listeners[listener.port]

    async def start_connection(self, addr_infos, **_):
        """Takes the place of ``aiohappyeyeballs.start_connection``: connect, or raise OSError."""
        port = addr_infos[0][4][1]
        await asyncio.sleep(self.delay_s())
        if port in self.silent:
            await self.loop.create_future()
        if port not in self._listeners:
            raise ConnectionRefusedError(111, "Connection refused")
        return SimpleNamespace(port=port)

    async def create_connection(self, factory, host=None, port=None, *, sock=None, **_):
        """Takes the place of ``loop.create_connection``."""
        if sock is None:
            sock = await self.start_connection([(0, 0, 0, "", (host, port))])
        listener = self._listeners.get(sock.port)
        if listener is None:
            raise ConnectionResetError(104, "Connection reset by peer")
        protocol = factory()
        ours, theirs = _End(self, protocol, PROCESS.get()), _End(self, None, listener.process)
        ours.peer, theirs.peer = theirs, ours
        protocol.connection_made(ours)
        self.loop.call_later(self.delay_s(), listener.accept, theirs,
                             context=in_context_of(listener.process))
        return ours, protocol


class _Listener:
    """A listening socket, as far as asyncio's servers are asked."""

    def __init__(self, network, factory, port, process):
        self.port = port
        self.process = process
        self.sockets = [SimpleNamespace(getsockname=lambda: (HOST, port))]
        self._network = network
        self._factory = factory
        self._open = True
        if process is not None:
            process.resources.append(self)

    def accept(self, end):
        """Serve a connection."""
        if not self._open:
            end.abort()
            return
        end.set_protocol(self._factory())
        end.get_protocol().connection_made(end)
        end.deliver()

    def close(self):
        self._open = False
        self._network.gone(self)

    process_died = close

    async def wait_closed(self):
        pass

    def is_serving(self):
        return self._open


_EOF, _RESET = object(), object()


class _End(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, network, protocol, process):
        super().__init__({"peername": (HOST, 50_000), "sockname": (HOST, 50_000)})
        self.peer = None
        self._network = network
        self._protocol = protocol
        self._process = process
        self._arriving = deque()  # (time, bytes or a mark) that the peer sent
        self._unread = 0          # bytes of it
        self._last_s = 0.0
        self._closing = self._lost = self._reading_paused = self._peer_paused = False
        if process is not None:
            process.resources.append(self)

    # -- sending --------------------------------------------------------------------------------

    def write(self, data):
        if not self._closing and data:
            self.peer.send(bytes(data))

    def writelines(self, parts):
        self.write(b"".join(parts))

    def write_eof(self):
        self.peer.send(_EOF)

    def can_write_eof(self):
        return True

    def close(self):
        """Hang up after what was written."""
        if not self._closing:
            self._closing = True
            self.peer.send(_EOF)
            self._network.loop.call_soon(self._lose, None, context=in_context_of(self._process))

    def abort(self):
        """Hang up; the peer sees a reset."""
        if not self._closing:
            self._closing = True
            self.peer.send(_RESET)
            self._network.loop.call_soon(self._lose, None, context=in_context_of(self._process))

    def process_died(self):
        """The operating system closes what its process had open."""
        if not self._closing:
            self._closing = self._lost = True
            self.peer.send(self._network.loop.random.choice((_EOF, _RESET)))

    # -- receiving ------------------------------------------------------------------------------

    def send(self, item):
        """Something is on its way to this end."""
        loop = self._network.loop
        if item is _RESET:
            self._arriving.clear()
            self._unread = 0
        pieces = [item]
        if isinstance(item, bytes):
            self._unread += len(item)
            if len(item) > 1 and loop.random.random() < 0.1:
                cut = loop.random.randrange(1, len(item))
                pieces = [item[:cut], item[cut:]]
            if self._unread > _MOST_UNREAD_BYTES and not self._peer_paused:
                self._peer_paused = True
                self.peer.get_protocol().pause_writing()
        for piece in pieces:
            self._last_s = max(self._last_s, loop.time() + self._network.delay_s())
            self._arriving.append((self._last_s, piece))
            loop.call_at(self._last_s, self.deliver, context=in_context_of(self._process))

    def deliver(self):
        """Hand over what has arrived."""
        loop = self._network.loop
        while (self._arriving and self._arriving[0][0] <= loop.time()
               and not self._reading_paused and self._protocol is not None):
            _, item = self._arriving.popleft()
            if self._closing:
                if isinstance(item, bytes):
                    self.peer.broken()
                self._arriving.clear()
            elif item is _EOF:
                if not self._protocol.eof_received():
                    self.close()
            elif item is _RESET:
                self.broken()
            else:
                data = [item]
                while (self._arriving and self._arriving[0][0] <= loop.time()
                       and isinstance(self._arriving[0][1], bytes) and loop.random.random() < 0.7):
                    data.append(self._arriving.popleft()[1])
                self._unread -= sum(map(len, data))
                self._protocol.data_received(b"".join(data))
        if self._peer_paused and self._unread <= _MOST_UNREAD_BYTES // 4:
            self._peer_paused = False
            if not self.peer.is_closing():
                self.peer.get_protocol().resume_writing()

    def broken(self):
        """The peer has gone."""
        if not self._closing:
            self._closing = True
            self._network.loop.call_soon(self._lose, ConnectionResetError(104, "reset by peer"),
                                         context=in_context_of(self._process))

    def _lose(self, error):
        if not self._lost:
            self._lost = True
            if self._process is not None and self in self._process.resources:
                self._process.resources.remove(self)
            if self._protocol is not None:
                self._protocol.connection_lost(error)

    def pause_reading(self):
        self._reading_paused = True

    def resume_reading(self):
        if self._reading_paused:
            self._reading_paused = False
            self._network.loop.call_soon(self.deliver, context=in_context_of(self._process))

    def is_reading(self):
        return not self._reading_paused

    # -- the rest of a transport ----------------------------------------------------------------

    def is_closing(self):
        return self._closing

    def set_protocol(self, protocol):
        self._protocol = protocol

    def get_protocol(self):
        return self._protocol

    def get_write_buffer_size(self):
        return self.peer._unread

    def get_write_buffer_limits(self):
        return _MOST_UNREAD_BYTES // 4, _MOST_UNREAD_BYTES

    def set_write_buffer_limits(self, high=None, low=None):
        pass
