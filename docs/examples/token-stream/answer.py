"""Publishes a text while it is written: some-model | python3 answer.py ID"""
import codecs, json, os, queue, sys, threading, time
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

HUB = os.environ.get("VISNYK_URL", "http://127.0.0.1:3000")
TOKEN = os.environ.get("VISNYK_TOKEN")
EVERY_S = 0.05      # between two publishes; what comes meanwhile goes together
RETRY_FOR_S = 240   # the hub remembers a key for five minutes


def publish(channel, key, events):
    """Publishes all events or none, once, and returns the position after them."""
    url = f"{HUB}/v1/channels/{quote(channel, safe='')}/events"
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key}
    if TOKEN:
        headers["Authorization"] = f"Bearer {TOKEN}"
    body = "\n".join(json.dumps(event) for event in events).encode()
    give_up = time.monotonic() + RETRY_FOR_S
    while True:
        try:
            with urlopen(Request(url, body, headers), timeout=30) as answer:
                return json.load(answer)["last_id"]
        except HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise SystemExit(f"{error.code}: {error.read().decode()}")
            failure = error
        except (OSError, ValueError) as error:  # not there, cut off, half an answer
            failure = error
        if time.monotonic() > give_up:
            raise SystemExit(f"gave up: {failure}")
        print(f"{failure}; trying again", file=sys.stderr)
        time.sleep(0.5)


def publish_answer(answer, pieces):
    """Publishes the pieces of a text as they come, then the end; returns the last position."""
    waiting = queue.Queue(maxsize=10_000)

    def read():
        reason = "error"
        try:
            for piece in pieces:
                waiting.put(("tokens", piece))
            reason = "stop"
        finally:
            waiting.put(("end", reason))

    threading.Thread(target=read, daemon=True).start()
    n, reason = 0, ""
    while not reason:
        taken = [waiting.get()]
        while not waiting.empty():
            taken.append(waiting.get())
        text = "".join(value for kind, value in taken if kind == "tokens")
        reason = next((value for kind, value in taken if kind == "end"), "")
        events = []
        if text:
            events.append({"type": "tokens", "data": {"n": n, "text": text}})
            n += 1
        if reason:
            events.append({"type": "end", "data": {"chunks": n, "reason": reason}})
        if events:
            position = publish(f"answers/{answer}", f"{answer}-{n}-{reason}", events)
        time.sleep(EVERY_S)
    return position


def standard_input():
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while piece := os.read(0, 65536):
        yield decoder.decode(piece)


if __name__ == "__main__":
    print(publish_answer(sys.argv[1], standard_input()))
