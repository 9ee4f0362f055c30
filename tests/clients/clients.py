"""One client library for Python, as an application uses it: prints what it hands over, a line of JSON
each. Usage: clients.py LIBRARY URL

None of them reconnects, so each has the loop that its users write: wait, and ask again from the last id.
"""

import asyncio
import json
import sys
import time

RETRY_S = 0.3


class Gone(Exception):
    """204: all channels are closed."""


def say(**what):
    print(json.dumps(what), flush=True)


class Parser:
    """Server-sent events out of lines (WHATWG HTML, 9.2.6), for clients that leave it to the user."""

    def __init__(self, received):
        self.received = received
        self.fields = {}

    def line(self, line):
        if isinstance(line, bytes):
            line = line.decode()
        line = line.rstrip("\r\n")
        if not line:
            fields, self.fields = self.fields, {}
            if "data" in fields:
                self.received(fields["data"], fields.get("id"), fields.get("event"))
            elif "id" in fields:
                self.received(None, fields["id"], None)
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and "data" in self.fields:
            value = self.fields["data"] + "\n" + value
        if name:
            self.fields[name] = value


def lines_of(pieces, line):
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for one in whole:
            line(one)


def with_requests(url, headers, received):
    import requests

    with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
        gone(answer.status_code)
        parser = Parser(received)
        for line in answer.iter_lines():
            parser.line(line)


def with_urllib3(url, headers, received):
    import urllib3

    pool = urllib3.PoolManager(retries=False)
    answer = pool.request("GET", url, headers=headers, preload_content=False)
    gone(answer.status)
    lines_of(answer.stream(), Parser(received).line)


def with_httpx(url, headers, received):
    import httpx

    with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
        gone(answer.status_code)
        parser = Parser(received)
        for line in answer.iter_lines():
            parser.line(line)


def with_aiohttp(url, headers, received):
    import aiohttp

    async def read():
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            gone(answer.status)
            parser = Parser(received)
            async for line in answer.content:
                parser.line(line)

    asyncio.run(read())


def with_sseclient(url, headers, received):
    import requests
    import sseclient

    with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
        gone(answer.status_code)
        for event in sseclient.SSEClient(answer).events():
            received(event.data, event.id, event.event)


def with_httpx_sse(url, headers, received):
    import httpx
    from httpx_sse import connect_sse

    with httpx.Client(timeout=60) as client:
        with connect_sse(client, "GET", url, headers=headers) as source:
            gone(source.response.status_code)
            for event in source.iter_sse():
                received(event.data, event.id, event.event)


LIBRARIES = {
    "requests": with_requests,
    "urllib3": with_urllib3,
    "httpx": with_httpx,
    "aiohttp": with_aiohttp,
    "sseclient-py": with_sseclient,
    "httpx-sse": with_httpx_sse,
}


def gone(status):
    if status == 204:
        raise Gone


def main(library, url):
    last = None

    def received(data, id_, type_):
        nonlocal last
        last = id_ or last
        if data is not None:
            say(**{"is": "event"}, data=data, id=id_, type=type_)

    while True:
        try:
            headers = {"Accept": "text/event-stream"}
            if last:
                headers["Last-Event-ID"] = last
            LIBRARIES[library](url, headers, received)
            say(**{"is": "end"})
        except Gone:
            return say(**{"is": "gave up"})
        except Exception as error:
            say(**{"is": "lost"}, error=type(error).__name__)
        time.sleep(RETRY_S)


if len(sys.argv) == 3:
    main(*sys.argv[1:])
else:
    print(json.dumps(list(LIBRARIES)))
