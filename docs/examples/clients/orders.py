"""Follows orders and publishes to them: orders.py [follow | paid TOTAL]. Needs Python alone."""
import http.client, json, os, sys, time, uuid
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

EVENTS = os.environ.get("VISNYK_URL", "http://127.0.0.1:3000") + "/v1/channels/orders%2F7/events"
TOKEN = os.environ.get("VISNYK_TOKEN")
POSITION = Path("orders.position")  # where it goes on after a restart
FAILURES = (OSError, http.client.HTTPException)


def request(url, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if TOKEN:
        headers["Authorization"] = f"Bearer {TOKEN}"
    return Request(url, body, headers)


def refused(error):
    """Whether another attempt would be refused too."""
    return isinstance(error, HTTPError) and error.code < 500 and error.code not in (404, 408, 429)


def events(stream):
    """The type, data and id of each event; without data where only the id moved."""
    kind, data, position = "message", [], None
    for line in stream:
        name, _, value = line.decode().rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            position = value
        elif not line.strip():
            yield kind, "\n".join(data) if data else None, position
            kind, data = "message", []


def follow():
    while True:
        position = POSITION.read_text() if POSITION.exists() else "earliest"
        try:
            # A heartbeat comes every 15 seconds: 60 without one mean that the connection is dead.
            asked = request(EVENTS, Accept="text/event-stream", Last_Event_ID=position)
            with urlopen(asked, timeout=60) as stream:
                if stream.status == 204:
                    sys.exit("the channel was deleted")
                for kind, data, position in events(stream):
                    if kind == "paid":
                        print("paid", json.loads(data)["total"], flush=True)
                    elif kind == "visnyk.gap":
                        print("events are missing:", json.loads(data)["reason"], file=sys.stderr)
                    if position:
                        POSITION.write_text(position)
        except FAILURES as error:
            if refused(error):
                sys.exit(f"refused: {error.read().decode()}")
            print(f"{error}; trying again", file=sys.stderr, flush=True)
        time.sleep(2)


def publish(total):
    body = json.dumps({"total": total}).encode()
    asked = request(f"{EVENTS}?type=paid", body, Idempotency_Key=str(uuid.uuid4()))
    for attempt in range(5):  # under one key: it is published once
        try:
            with urlopen(asked, timeout=30) as answer:
                return json.load(answer)["id"]
        except FAILURES as error:
            if refused(error):
                sys.exit(f"refused: {error.read().decode()}")
        time.sleep(2**attempt / 4)
    sys.exit("the hub does not answer")


if sys.argv[1:2] == ["paid"]:
    print(publish(json.loads(sys.argv[2])))
else:
    follow()
