"""What OpenAPI cannot say of requests: which parameters go together, lengths in bytes, lines of JSON."""

import json
from urllib.parse import unquote

import schemathesis

NDJSON = "application/x-ndjson"


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Any body is the data of an event, and a batch is generated as a list of its lines."""
    envelope = raw_schema["components"]["schemas"]["NewEnvelope"]
    of_one_channel = {name: member for name, member in envelope["properties"].items() if name != "channel"}
    for path, item in raw_schema["paths"].items():
        content = item.get("post", {}).get("requestBody", {}).get("content", {})
        if NDJSON in content:
            for media in content.values():
                media["schema"] = {}
            line = envelope | ({"properties": of_one_channel} if "{channel}" in path else {})
            content[NDJSON] = {"schema": {"type": "array", "minItems": 1, "items": line}}


@schemathesis.serializer(NDJSON)
def ndjson(context, value):
    lines = value if isinstance(value, list) else [value]
    return "\n".join(json.dumps(line) for line in lines).encode()


@schemathesis.hook
def map_case(context, case):
    path, query, headers = case.operation.path, case.query, case.headers or {}
    if "last_event_id" in query:
        # It is refused only where no position that goes before it is there.
        for name in ("lastEventId", "lastEventID", "after"):
            query.pop(name, None)
        for name in [name for name in headers if name.lower() == "last-event-id"]:
            del headers[name]
    if path.endswith("/poll") and str(query.get("timeout", 1)).isdecimal():
        # A poll that waits says nothing more than one that does not.
        query["timeout"] = 0 if int(query.get("timeout", 1)) <= 60 else query["timeout"]
    if case.operation.method.lower() == "post" and path == "/v1/events":
        query.setdefault("channel", "default")
    if case.media_type == NDJSON and path.endswith("/events"):
        query.pop("type", None)
        query.pop("retry", None)
    return case


@schemathesis.hook
def filter_case(context, case):
    """No names that are too long in bytes alone, and patterns only where they are taken."""
    channel = unquote(str((case.path_parameters or {}).get("channel")))
    if "*" in channel and not case.operation.path.endswith("/poll"):
        return False
    if case.media_type == NDJSON and not isinstance(case.body, list):
        return False
    return fits([channel, case.query, case.body if case.media_type == NDJSON else None])


def fits(value):
    if isinstance(value, str):
        return len(value) > 255 or len(value.encode(errors="replace")) <= 255
    if isinstance(value, dict):
        # The data of an event is not a name.
        return all(fits(member) for name, member in value.items() if name != "data")
    return all(map(fits, value)) if isinstance(value, list) else True
