"""Holds client libraries against the real hub, each as a process of its own behind a proxy of its own,
which can hold its connections back and cut them within an event.

Usage: matrix.py [--long] [--table FILE]. VISNYK_BIN is the hub; NODE_DIR has the packages of clients.mjs.
"""

import asyncio
import dataclasses
import json
import os
import pathlib
import re
import signal
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
CHANNEL = "matrix"
# Within so much an event must be with the application.
PROMPT_S = 0.5
# For what takes no time on a machine that is alive.
PATIENCE_S = 30
# How long a client that has not stopped at 204 takes at most to ask again.
QUIET_S = 4
TABLE_BEGIN, TABLE_END = "<!-- the matrix -->", "<!-- its end -->"


class Hub:
    """A process of the hub."""

    @classmethod
    async def start(cls, **settings):
        self = cls()
        settings = {
            "LIMITS__CONNECTIONS__RETRY_MIN_MS": 200,
            "LIMITS__CONNECTIONS__RETRY_MAX_MS": 400,
            "LIMITS__CONNECTIONS__HEARTBEAT_S": 1,
            "DRAIN_WINDOW_S": 1,
        } | settings
        env = os.environ | {f"VISNYK_{name}": str(value) for name, value in settings.items()}
        self.process = await asyncio.create_subprocess_exec(
            os.environ["VISNYK_BIN"], "--listen", "127.0.0.1:0", env=env, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(PATIENCE_S):
            while True:
                line = (await self.process.stderr.readline()).decode()
                assert line, "the hub ended"
                if found := re.search(r"listening on http://127.0.0.1:(\d+)", line):
                    self.port = int(found[1])
                    break
        # Its pipe is read on, so that it never waits for a reader.
        self.log = asyncio.create_task(self.process.stderr.read())
        return self

    async def ask(self, method, path, body=None):
        def ask():
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.port}{path}", data=body and body.encode(), method=method
            )
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.read().decode()

        return await asyncio.to_thread(ask)

    async def publish(self, data):
        await self.ask("POST", f"/v1/channels/{CHANNEL}/events", data)

    async def end(self, signal_):
        has_ended = self.process.returncode is not None
        if not has_ended:
            self.process.send_signal(signal_)
            await self.process.wait()


@dataclasses.dataclass
class Proxy:
    """What stands between one client and the hubs."""

    port: int = 0
    upstream: int = 0
    # Connections wait until this is set.
    passing: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    # Bytes in whose middle the next connection that carries them is cut.
    cut_within: bytes = b""
    connections: set = dataclasses.field(default_factory=set)
    # How often a client was refused for the time being, and how often for good.
    refused: int = 0
    answered_204: int = 0

    async def start(self):
        self.passing.set()
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    def cut_all(self):
        for writer in self.connections:
            writer.close()

    async def serve(self, reader, writer):
        self.connections.add(writer)
        back = None
        try:
            await self.passing.wait()
            up_reader, back = await asyncio.open_connection("127.0.0.1", self.upstream)
            await asyncio.gather(self.up(reader, back), self.down(up_reader, writer))
        except OSError:
            pass
        finally:
            self.connections.discard(writer)
            for side in (writer, back):
                if side:
                    side.close()

    async def up(self, reader, back):
        while piece := await reader.read(65536):
            back.write(piece)
            await back.drain()
        # Its client has left.
        back.close()

    async def down(self, reader, writer):
        while piece := await reader.read(65536):
            self.refused += piece.count(b": refused")
            self.answered_204 += piece.startswith(b"HTTP/1.1 204")
            at = piece.find(self.cut_within) if self.cut_within else -1
            if at >= 0:
                piece = piece[: at + len(self.cut_within) // 2]
                self.cut_within = b""
            writer.write(piece)
            await writer.drain()
            if at >= 0:
                break
        writer.close()


class Client:
    """One library."""

    def __init__(self, name, command):
        self.name, self.command = name, command
        self.proxy = Proxy()
        self.seen = []  # (data, time)
        self.ids = []
        self.empty = 0
        self.notes = []
        self.changed = asyncio.Event()

    async def start(self, query):
        await self.proxy.start()
        url = f"http://127.0.0.1:{self.proxy.port}/v1/channels/{CHANNEL}/events{query}"
        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            url,
            stdout=asyncio.subprocess.PIPE,
            # Some write each lost connection there.
            stderr=asyncio.subprocess.DEVNULL,
        )
        self.reading = asyncio.create_task(self.read())

    async def read(self):
        while line := await self.process.stdout.readline():
            said = json.loads(line)
            if said["is"] == "event":
                if said["data"] == "":
                    self.empty += 1
                else:
                    self.seen.append((said["data"], time.monotonic()))
            else:
                self.notes.append(said)
            self.changed.set()

    async def until(self, what, condition):
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            said = f"saw {[data for data, _ in self.seen]}, said {self.notes}"
            raise AssertionError(f"{self.name}: {what}: {said}") from None

    async def has(self, data):
        await self.until(f"{data!r} is missing", lambda: self.at(data))

    def at(self, data):
        return next((at for seen, at in self.seen if seen == data), None)

    def own(self):
        """The data of the events that this test published."""
        return [data for data, _ in self.seen if data.startswith("event ")]

    def shows(self):
        """How the latest end of a connection showed, in words of the table."""
        if not self.notes:
            return "reconnects silently"
        note = self.notes[-1]
        words = {"lost": "error", "end": "end of the body", "gave up": "stops", "crashed": "crashes"}
        if note["is"] == "lost" and not note.get("error"):
            return "`error` event, reconnects"
        return words[note["is"]] + (f" `{note['error']}`" if note.get("error") else "")

    async def stop(self):
        has_ended = self.process.returncode is not None
        if not has_ended:
            self.process.kill()
        await self.process.wait()
        self.proxy.server.close()
        self.proxy.cut_all()


class Curl(Client):
    """curl in a loop, as in a shell script."""

    async def start(self, query):
        await self.proxy.start()
        self.url = f"http://127.0.0.1:{self.proxy.port}/v1/channels/{CHANNEL}/events{query}"
        self.process = None
        self.reading = asyncio.create_task(self.loop())

    async def loop(self):
        last = []
        while True:
            self.process = await asyncio.create_subprocess_exec(
                "curl", "-sN", "-H", "Accept: text/event-stream", "-w", "\nstatus %{http_code}\n", *last, self.url,
                stdout=asyncio.subprocess.PIPE,
            )
            data = status = None
            while line := (await self.process.stdout.readline()).decode():
                if line.startswith("data: "):
                    data = line[6:].rstrip("\n")
                elif line.startswith("id: "):
                    last = ["-H", f"Last-Event-ID: {line[4:].strip()}"]
                elif line.startswith("status "):
                    status = line.split()[1]
                elif line == "\n" and data is not None:
                    self.seen.append((data, time.monotonic()))
                    data = None
                self.changed.set()
            code = await self.process.wait()
            if status == "204":
                self.notes.append({"is": "gave up"})
                self.changed.set()
                return
            self.notes.append({"is": "lost", "error": f"exit {code}"} if code else {"is": "end"})
            self.changed.set()
            await asyncio.sleep(0.3)

    async def stop(self):
        self.reading.cancel()
        await super().stop()


async def every_client():
    async def names(*command):
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        return json.loads((await process.communicate())[0])

    python = [sys.executable, str(HERE / "clients.py")]
    node = ["node", str(pathlib.Path(os.environ["NODE_DIR"]) / "clients.mjs")]
    clients = [Client(name, [*python, name]) for name in await names(*python)]
    clients += [Client(name, [*node, name]) for name in await names(*node)]
    if os.environ.get("JAVA_CLASSES"):
        java = ["java", "-XX:TieredStopAtLevel=1", "-cp", os.environ["JAVA_CLASSES"], "Client"]
        clients.append(Client("Java HttpClient", java))
    return [*clients, Curl("curl", [])]


async def all_of(clients, step):
    """Does a step with each client, and reports all that fail."""
    results = await asyncio.gather(*map(step, clients), return_exceptions=True)
    failed = [result for result in results if isinstance(result, BaseException)]
    assert not failed, "\n".join(map(str, failed))
    return results


def forget(clients):
    for client in clients:
        client.notes.clear()


async def lives(hub, clients, events):
    """One event a second, each seen at once. Other work of the machine holds a client up once: three tries."""
    for attempt in range(3):
        sent = {}
        for number in range(events):
            data = f"event live {attempt}.{number}"
            sent[data] = time.monotonic()
            await hub.publish(data)
            await asyncio.sleep(max(0, sent[data] + 1 - time.monotonic()))
        for data in sent:
            await all_of(clients, lambda client: client.has(data))
        late = {
            client.name: round(worst, 3)
            for client in clients
            if (worst := max(client.at(data) - at for data, at in sent.items())) > PROMPT_S
        }
        if not late:
            return
        print(f"later than {PROMPT_S} s: {late}", flush=True)
    raise AssertionError(f"events come late: {late}")


async def run(events, hello):
    """The whole of it; gives a row of the table for each client."""
    clients = await every_client()
    rows = {client.name: {} for client in clients}
    hubs = []

    def note(column):
        for client in clients:
            rows[client.name][column] = client.shows()

    async def next_hub(**settings):
        hubs.append(await Hub.start(**settings))
        return hubs[-1]

    def lead_to(hub):
        for client in clients:
            client.proxy.upstream = hub.port

    try:
        hub = await next_hub()
        lead_to(hub)
        query = "?hello=1" if hello else ""
        await all_of(clients, lambda client: client.start(query))
        # The id that it starts from has come without an event of the application.
        if hello:
            await all_of(clients, lambda client: client.until("no hello", lambda: client.seen))
        else:
            await streams_are(hub, len(clients))

        # Cut before its first event, and published while it is away.
        for client in clients:
            client.proxy.passing.clear()
            client.proxy.cut_all()
        await streams_are(hub, 0)
        await hub.publish("event while away")
        for client in clients:
            client.proxy.passing.set()
        if hello:
            await all_of(clients, lambda client: client.has("event while away"))
        else:
            await streams_are(hub, len(clients))
        await hub.publish("event after that")
        await all_of(clients, lambda client: client.has("event after that"))
        for client in clients:
            kept = bool(client.at("event while away"))
            rows[client.name]["keeps an id without data"] = "yes" if kept else "no"
        if not hello:
            return rows

        await lives(hub, clients, events)

        # Cut within an event: no client takes a part of it for the whole, and all get it once.
        forget(clients)
        data = f"event that is cut {'x' * 200} and goes on"
        for client in clients:
            client.proxy.cut_within = data.encode()
        await hub.publish(data)
        await all_of(clients, lambda client: client.has(data))
        note("cut")
        expected = clients[0].own()
        for client in clients:
            assert client.own() == expected, f"{client.name}: {client.own()}"
        assert len(set(expected)) == len(expected) and expected[0] == "event while away", expected

        # A drain, and another hub behind the same address.
        forget(clients)
        lead_to(await next_hub())
        await hub.end(signal.SIGTERM)
        hub = hubs[-1]
        await hub.publish("event after the drain")
        await all_of(clients, lambda client: client.has("event after the drain"))
        note("drain")

        # A crash, after which the hub has as many connections as it can for a time.
        forget(clients)
        full = len(clients)
        crashed, hub = hub, await next_hub(LIMITS__CONNECTIONS__CONNECTIONS_MAX=full)
        held = [await held_stream(hub) for _ in range(full)]
        await streams_are(hub, full)
        lead_to(hub)
        await crashed.end(signal.SIGKILL)
        await all_of(clients, is_refused)
        for writer in held:
            writer.close()
        await hub.publish("event after the refusal")
        await all_of(clients, lambda client: client.has("event after the refusal"))
        note("refused")

        # The end of the channel: a client that comes back gets 204, which tells EventSource to stop.
        forget(clients)
        await hub.ask("DELETE", f"/v1/channels/{CHANNEL}")
        await all_of(clients, lambda client: client.has(CHANNEL))
        for client, has_stopped in zip(clients, await all_of(clients, stops)):
            rows[client.name]["channel closed"] = "stops" if has_stopped else "asks again"
            rows[client.name]["messages without data"] = "yes" if client.empty else "no"
        return rows
    finally:
        await asyncio.gather(*(client.stop() for client in clients if hasattr(client, "reading")))
        await asyncio.gather(*(hub.end(signal.SIGKILL) for hub in hubs))


async def stops(client):
    """Whether it stops at 204; some do without a word, so it has some time to ask again."""
    deadline = time.monotonic() + PATIENCE_S
    while client.proxy.answered_204 == 0:
        # With the last chunk.
        if any(note["is"] == "gave up" for note in client.notes):
            return True
        assert time.monotonic() < deadline, f"{client.name} never asks again: {client.notes}"
        await asyncio.sleep(0.02)
    window = time.monotonic() + QUIET_S
    while time.monotonic() < window:
        if client.proxy.answered_204 > 1:
            return False
        await asyncio.sleep(0.02)
    return True


async def is_refused(client):
    deadline = time.monotonic() + PATIENCE_S
    while client.proxy.refused == 0:
        assert time.monotonic() < deadline, f"{client.name} is not refused: {client.notes}"
        await asyncio.sleep(0.02)


async def held_stream(hub):
    """A stream that is not read, and counts as a connection."""
    _, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(b"GET /v1/channels/other/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await writer.drain()
    return writer


async def streams_are(hub, count):
    async with asyncio.timeout(PATIENCE_S):
        while f"visnyk_streams {count}\n" not in await hub.ask("GET", "/metrics"):
            await asyncio.sleep(0.02)


COLUMNS = ["keeps an id without data", "messages without data", "cut", "drain", "refused", "channel closed"]


def table(rows):
    lines = ["| client | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [
        "| " + " | ".join([name, *(row.get(column, "") for column in COLUMNS)]) + " |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def main():
    arguments = sys.argv[1:]
    is_long = "--long" in arguments
    began = time.monotonic()
    rows = asyncio.run(run(20 if is_long else 3, hello=True))
    if is_long:
        for name, row in asyncio.run(run(0, hello=False)).items():
            rows[name] |= row
    text = table(rows)
    print(text)
    if "--table" in arguments:
        path = pathlib.Path(arguments[arguments.index("--table") + 1])
        before, rest = path.read_text().split(TABLE_BEGIN)
        after = rest.split(TABLE_END)[1]
        path.write_text(f"{before}{TABLE_BEGIN}\n{text}\n{TABLE_END}{after}")
    elif is_long:
        documented = (HERE / "../../docs/clients.md").read_text()
        assert text in documented, "docs/clients.md differs: tests/clients/run --long --table docs/clients.md"
    print(f"{len(rows)} clients in {time.monotonic() - began:.0f} s")


main()
