"""Holds what hubs export against the schema of OTLP, and against what a collector understands of it.

A hub exports to a recorder, which passes each request on to the collector and its answer back. The collector
exports in protobuf to a second recorder. All three must have the same spans.
"""

import base64
import gzip
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import rotel
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "rojo=1,congo=2"}
STAGES = (
    "publish", "admit", "append", "prepare", "make_durable", "write", "fsync", "show", "fan_out", "round",
)
PATIENCE_S = 60


def parse_json(body):
    """OTLP/JSON is the JSON mapping of protobuf, but for ids: hexadecimal instead of base64."""
    message = json.loads(body)
    for resource in message["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    if key in span:
                        span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    # A member that the schema does not have, or a value of another type, is an error.
    return json_format.ParseDict(message, ExportTraceServiceRequest(), ignore_unknown_fields=False)


def spans_of(requests):
    """Each span by its id, with the resource that it is of."""
    found = {}
    for request in requests:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    assert span.span_id not in found, f"twice: {span}"
                    found[span.span_id] = (span, attributes(resource.resource), scope.scope.name)
    return found


def attributes(message):
    found = {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in message.attributes}
    assert len(found) == len(message.attributes), f"a key is there twice: {message}"
    return found


class Recorder(ThreadingHTTPServer):
    """Keeps the bodies of requests; `pass_on` answers them."""

    daemon_threads = True

    def __init__(self, pass_on=None):
        super().__init__(("127.0.0.1", 0), Recording)
        self.bodies, self.pass_on = [], pass_on
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"


class Recording(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_gzip = self.headers.get("Content-Encoding") == "gzip"
        status, kind, answer = 200, "application/x-protobuf", b""
        if self.server.pass_on:
            status, kind, answer = self.server.pass_on(self.path, self.headers["Content-Type"], body)
        self.server.bodies.append(gzip.decompress(body) if is_gzip else body)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Program:
    """A process with a log, in a directory of its own. It ends with the `with` block; what fails there shows the log."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory()
        self.log = pathlib.Path(self.directory.name, "log")

    def start(self, command, **settings):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory.name, **settings)

    def has_ended(self):
        return isinstance(self.process.poll(), int)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if not self.has_ended():
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if kind is not None:
            print(f"-- {type(self).__name__}:\n{self.log.read_text()}", file=sys.stderr)
        self.directory.cleanup()


class Collector(Program):
    """Rotel, as it comes from PyPI."""

    def __init__(self, exports_to):
        super().__init__()
        program = pathlib.Path(rotel.__file__).with_name("rotel-agent")
        program.chmod(0o755)
        self.address = f"127.0.0.1:{free_port()}"
        arguments = {
            "--otlp-http-endpoint": self.address,
            "--otlp-grpc-endpoint": f"127.0.0.1:{free_port()}",
            "--exporter": "otlp",
            "--otlp-exporter-protocol": "http",
            "--otlp-exporter-endpoint": f"http://{exports_to}",
        }
        self.start([program, "start", *(word for pair in arguments.items() for word in pair)])

    def take(self, path, kind, body):
        request = urllib.request.Request(f"http://{self.address}{path}", body, {"Content-Type": kind})
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                    return answer.status, answer.headers.get("Content-Type", kind), answer.read()
            except urllib.error.HTTPError as error:
                return error.code, "text/plain", error.read()
            except urllib.error.URLError:
                # It has not begun to listen.
                assert not self.has_ended() and time.monotonic() < deadline, "the collector does not listen"
                time.sleep(0.1)


class Hub(Program):
    def __init__(self, collector, **settings):
        super().__init__()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VISNYK_")}
        environment |= {"VISNYK_TRACES__ENDPOINT": f"http://{collector}/v1/traces", "VISNYK_NODE": "edge-1"}
        environment |= {f"VISNYK_{name.upper()}": value for name, value in settings.items()}
        self.start([os.environ["VISNYK_BIN"], "--listen", "127.0.0.1:0"], env=environment)

    def __enter__(self):
        try:
            self.url = wait_for(lambda: re.search(r"listening on (\S+)", self.log.read_text())).group(1)
        except AssertionError as error:
            self.__exit__(type(error))
            raise
        return self

    def publish(self, path, data, status, **headers):
        request = urllib.request.Request(self.url + path, data.encode(), SAMPLED | headers, method="POST")
        try:
            answered = urllib.request.urlopen(request, timeout=PATIENCE_S).status
        except urllib.error.HTTPError as error:
            answered = error.code
        assert answered == status, f"{path}: {answered}"

    def metric(self, name):
        text = urllib.request.urlopen(f"{self.url}/metrics", timeout=PATIENCE_S).read().decode()
        return float(re.search(rf"^{re.escape(name)} (.*)$", text, re.MULTILINE).group(1))

    def end(self):
        """With all spans exported."""
        self.process.terminate()
        assert self.process.wait(PATIENCE_S) == 0, "it ended with another code than 0"
        said = self.log.read_text()
        assert "did not take all spans" not in said and "cannot be exported" not in said, "spans were lost"


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def wait_for(found):
    deadline = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.05)
    return value


def check_span(span, resource, scope):
    assert (len(span.trace_id), len(span.span_id)) == (16, 8), span
    assert span.trace_id.hex() == TRACE and any(span.span_id), span
    assert span.trace_state == SAMPLED["tracestate"], span
    assert len(span.parent_span_id) == 8, span
    assert span.name and span.kind != trace_pb2.Span.SPAN_KIND_UNSPECIFIED, span
    assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano, span
    assert abs(span.end_time_unix_nano / 1e9 - time.time()) < 10 * PATIENCE_S, span
    has_remote_parent = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    assert span.flags & trace_pb2.SPAN_FLAGS_TRACE_FLAGS_MASK == 1, span
    assert span.flags & has_remote_parent, span
    is_remote = bool(span.flags & trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
    is_request = span.kind == trace_pb2.Span.SPAN_KIND_SERVER
    assert is_remote == is_request == (span.parent_span_id.hex() == PARENT), span
    found = attributes(span)
    failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    assert failed == ("error.type" in found) == bool(span.status.message), span
    assert (scope, resource["service.name"], resource["host.name"]) == ("visnyk", "visnyk", "edge-1")


def publish_all_ways(hub):
    """Publishes that are taken, refused and malformed; four of them have a fan-out."""
    hub.publish("/v1/channels/a/events", "hello", 201)
    hub.publish("/v1/channels/a/events", "one", 201, **{"Idempotency-Key": "k"})
    hub.publish("/v1/channels/a/events", "two", 422, **{"Idempotency-Key": "k"})
    hub.publish("/v1/channels//events", "x", 400)
    hub.publish("/v1/channels/%22%5C%C3%A4%E2%82%AC%F0%9F%98%80/events", "x", 201)
    lines = "".join(json.dumps({"channel": f"c{n}", "data": n}) + "\n" for n in range(200))
    hub.publish("/v1/events", lines, 201, **{"Content-Type": "application/x-ndjson"})


def export_from_hubs(sent):
    """Has a hub with history in memory export, and one with a log on disk; gives all spans."""
    with tempfile.TemporaryDirectory() as data:
        for number, settings in enumerate(({}, {"data_dir": data}), start=1):
            before = len(spans_of(map(parse_json, sent.bodies)))
            with Hub(sent.address, **settings) as hub:
                subscription = f"{hub.url}/v1/events?channel=a&channel=*"
                with urllib.request.urlopen(subscription, timeout=PATIENCE_S):
                    publish_all_ways(hub)

                    def is_whole():
                        spans = spans_of(map(parse_json, sent.bodies))
                        names = [span.name for span, *_ in spans.values()]
                        exported = hub.metric("visnyk_trace_spans_exported_total")
                        return names.count("fan_out") == 4 * number and exported == len(spans) - before

                    wait_for(is_whole)
                hub.end()
    return spans_of(map(parse_json, sent.bodies))


def check_all(spans):
    for span in spans.values():
        check_span(*span)
    names = {span.name for span, *_ in spans.values()}
    assert names >= set(STAGES), names
    for span, *_ in spans.values():
        has_parent = span.parent_span_id in spans or span.parent_span_id.hex() == PARENT
        assert has_parent, f"its parent is not there: {span}"


def main():
    understood = Recorder()
    with Collector(understood.address) as collector:
        sent = Recorder(pass_on=collector.take)
        ours = export_from_hubs(sent)
        check_all(ours)
        # Nothing was lost in parsing: all members are there again, in the same form.
        for body in sent.bodies:
            again = json_format.MessageToDict(parse_json(body))
            assert normal(again) == normal(json.loads(body), hexadecimal=True), body

        def theirs():
            return spans_of(map(ExportTraceServiceRequest.FromString, understood.bodies))

        wait_for(lambda: len(theirs()) >= len(ours))
        assert theirs() == ours
    print(f"otlp: {len(ours)} spans are those of the schema, and a collector understood all of them")


def normal(message, hexadecimal=False):
    """Ids in base64, enums by their number or name alike, absent members and empty ones alike."""
    kinds = dict(trace_pb2.Span.SpanKind.items()) | dict(trace_pb2.Status.StatusCode.items())

    def of(key, value):
        if isinstance(value, dict):
            return {name: of(name, member) for name, member in value.items() if member not in ("", [], {}, 0)}
        if isinstance(value, list):
            return [of(key, item) for item in value]
        if hexadecimal and key in ("traceId", "spanId", "parentSpanId"):
            return base64.b64encode(bytes.fromhex(value)).decode()
        return kinds.get(value, value) if key in ("kind", "code") else value

    return of("", message)


if __name__ == "__main__":
    main()
