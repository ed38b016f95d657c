"""HTTP as bytes on a socket, for requests that no client library sends."""

import asyncio
import random
import re
from contextlib import suppress
from urllib.parse import urlsplit

STATUS = re.compile(rb"^HTTP/1\.[01] (\d{3})[ \r]", re.MULTILINE)
BODY = b'{"prompt":"x","max_tokens":5}'


async def sent(url, content, wait_s=5.0, *, end=True):
    """All bytes that a server answers to these bytes, after which the client sends no more."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    answer = b""
    with suppress(ConnectionError):
        try:
            writer.write(content)
            if end and writer.can_write_eof():
                writer.write_eof()
            async with asyncio.timeout(wait_s):
                while part := await reader.read(65536):
                    answer += part
        except TimeoutError:
            pass
        finally:
            writer.close()
            await writer.wait_closed()
    return answer


def statuses(answer):
    return [int(one) for one in STATUS.findall(answer)]


def post(body=BODY, *headers, path=b"/v1/completions"):
    """A well-formed request, with further header lines."""
    return b"\r\n".join(
        [
            b"POST " + path + b" HTTP/1.1",
            b"Host: 127.0.0.1",
            b"Content-Type: application/json",
            *headers,
            b"",
            body,
        ]
    )


def length(body):
    return b"Content-Length: %d" % len(body)


class Grammar:
    """Draws requests that are well-formed but for some of their parts."""

    METHODS = (
        b"POST",
        b"GET",
        b"PUT",
        b"post",
        b"PO ST",
        b"",
        b"\x00",
        b"P" * 40,
        b"CONNECT",
        b"PRI",
        b"HEAD",
        b"OPTIONS",
        b"TRACE",
        b"GE\tT",
        b"\xff\xfe",
        b"GET\r\nX: y",
    )
    TARGETS = (
        b"/v1/completions",
        b"/health",
        b"/",
        b"*",
        b"",
        b"//",
        b"http://evil.example/health",
        b"/v1/completions?" + b"a=b&" * 500,
        b"/%00",
        b"/%ff%fe",
        b"/../../etc/passwd",
        b"/v1/penstock/decisions/%2e%2e%2f",
        b"/\x00",
        b"/a b",
        b"/\xe2\x80\xae",
        b"evil.example:443",
        b"/" + b"a" * 9000,
        b"/v1//completions",
        b"/v1/%63ompletions",
        b"http://[::1",
        b"http://[",
        b"//[",
        b"/?\xff",
        b"http://a:99999999/",
        b"?",
        b"#",
        b":",
    )
    VERSIONS = (
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"HTTP/1.9",
        b"HTTP/0.9",
        b"HTTP/11",
        b"http/1.1",
        b"",
        b"HTTP/1.1 ",
        b"HTTP/9999999.1",
        b"HTTP/1.\xb2",
        b"ICY/1.1",
    )
    NAMES = (
        b"X",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Content-Encoding",
        b"Content-Type",
        b"Expect",
        b"Connection",
        b"Upgrade",
        b"Host",
        b"Authorization",
        b"Origin",
        b"",
        b" X",
        b"X ",
        b"X\x00",
        b"X\r",
        b"\xc3\xa9",
        b"X-Penstock-Class",
        b"X-Penstock-Deadline-S",
        b"X-Penstock-Confidential",
        b"X-Penstock-Nothing",
        b"Range",
        b"Cookie",
        b"Sec-Fetch-Site",
        b"Trailer",
        b"TE",
        b"traceparent",
        b"X" * 5000,
        b"Sec-WebSocket-Key",
        b"If-Modified-Since",
    )
    VALUES = (
        b"",
        b"x",
        b"0",
        b"-1",
        b"+5",
        b"5, 5",
        b"5,6",
        b"1e3",
        b"0x10",
        b"\xc2\xb2",
        b"9" * 30,
        b" 5",
        b"5 ",
        b"5\t",
        b"chunked",
        b"Chunked",
        b" chunked",
        b"chunked, chunked",
        b"chunked;q=1",
        b"identity, chunked",
        b"chunked, identity",
        b"gzip",
        b"deflate",
        b"br",
        b"gzip, gzip",
        b"100-continue",
        b"close",
        b"keep-alive, close",
        b"h2c",
        b"websocket",
        b"a\x00b",
        b"a\rb",
        b"a\r\n b",
        b"a\r\n\tb",
        b"\xff\xfe",
        b"\xe2\x80\xae",
        b"z" * 9000,
        b"Bearer x",
        b"Bearer \xff",
        b"Basic Og==",
        b"http://[",
        b"http://evil.example",
        b"nan",
        b"1e309",
        b"-0",
        b"application/json; charset=\xff",
        b"application/json; charset=nothing",
        b"text/plain",
        b"bytes=0-",
        b"00-\x00-",
        b"127.0.0.1",
        b"[::1]:x",
        b"a b",
        b"/",
        b"@",
    )
    CHUNKS = (
        b"5\r\nabcde\r\n",
        b"0\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"-1\r\n",
        b"0x5\r\nabcde\r\n",
        b"5;a=b\r\nabcde\r\n",
        b"5;" + b"a" * 9000 + b"\r\nabcde\r\n",
        b"5 \r\nabcde\r\n",
        b"5\nabcde\n",
        b"5\rabcde\r",
        b"f" * 20 + b"\r\n",
        b"fffffffffffffff\r\n",
        b"\r\n",
        b"5\r\nabcdefg\r\n",
        b"5\r\nabc",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"\x00",
        b"G\r\n",
        b"1d\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"1_0\r\n",
        b"5\r\nabcde0\r\n\r\n",
    )
    ENDS = (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\x00\r\n", b"\r\n\r\n", b"\x0b\r\n", b"\r\n ")
    BODIES = (
        BODY,
        b"",
        b"{",
        b"[]",
        b"null",
        b"\x00" * 40,
        b'{"prompt":',
        b"\xff" * 40,
        b'{"prompt":"\\ud800"}',
        b'{"prompt":1e400}',
        b"[" * 3000,
        b'{"a":' * 1500,
        b'{"prompt":"x","stream":"yes"}',
        b'{"prompt":"x","model":{}}',
        b'{"messages":7}',
        b'{"prompt":"x","penstock":{"deadline_s":-1}}',
        b'{"prompt":"x","n":1e9}',
        b'{"prompt":[1,"a",null,{}],"max_tokens":5}',
        b'{"prompt":"x","max_tokens":99999999999999999999}',
        b'{"prompt":"x","model":"\\u0000\\u202e"}',
        b"\x1f\x8b\x08\x00" + b"\x00" * 30,
    )

    def __init__(self, seed):
        self._random = random.Random(seed)

    def case(self):
        """The bytes of one or several requests."""
        return b"".join(self._request() for _ in range(self._random.choice((1, 1, 1, 2, 3))))

    def _request(self):
        draw, rare = self._random, self._random.random() < 0.3
        first = [
            self._odd(self.METHODS, rare),
            self._odd(self.TARGETS, rare),
            self._odd(self.VERSIONS, rare),
        ]
        space = b" " if draw.random() < 0.95 else draw.choice((b"  ", b"\t", b"", b"\x0b"))
        body = self._odd(self.BODIES, rare)
        lines = [space.join(first)]
        if draw.random() < 0.95:
            lines.append(b"Host: 127.0.0.1")
        if draw.random() < 0.8:
            lines.append(b"Content-Type: application/json")
        framing = draw.random()
        if framing < 0.5:
            lines.append(length(body))
        elif framing < 0.9:
            lines.append(b"Transfer-Encoding: chunked")
            body = b"".join(draw.choice(self.CHUNKS) for _ in range(draw.randrange(1, 4)))
        for _ in range(draw.choice((0, 1, 1, 2, 3))):
            colon = b": " if draw.random() < 0.9 else draw.choice((b":", b" : ", b"", b":\x00"))
            lines.append(draw.choice(self.NAMES) + colon + draw.choice(self.VALUES))
        draw.shuffle(rest := lines[1:])
        end = b"\r\n" if draw.random() < 0.9 else draw.choice(self.ENDS)
        whole = end.join([lines[0], *rest]) + end + end + body
        return whole if draw.random() < 0.95 else whole[: draw.randrange(len(whole) + 1)]

    def _odd(self, of, rare):
        return self._random.choice(of) if rare and self._random.random() < 0.6 else of[0]
