#!/usr/bin/env python3
"""OTLP/HTTP receiver with OpenTelemetry's own Python classes: prints what a consumer makes of histograms.

    receiver.py        prints its port, takes one request, prints a line of JSON for each point of a histogram

A point of an exponential histogram has its buckets as the format defines them: index i is
(base^i, base^(i+1)] with base 2^(2^-scale).
"""
import http.server
import json

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service


def attributes(point):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in point.attributes}


def exponential(point):
    base = 2.0 ** (2.0 ** -point.scale)
    buckets = [[0, 0, point.zero_count]] if point.zero_count else []
    for sign, side in ((1, point.positive), (-1, point.negative)):
        for i, count in enumerate(side.bucket_counts, side.offset):
            buckets.append([sign * base**i, sign * base ** (i + 1), count])
    return buckets


def explicit(point):
    bounds = list(point.explicit_bounds)
    return [list(b) for b in zip([None, *bounds], [*bounds, None], point.bucket_counts)]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        request = service.ExportMetricsServiceRequest.FromString(body)
        answer = service.ExportMetricsServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        for metric in (m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics):
            kind = metric.WhichOneof("data")
            if "histogram" not in kind:
                continue
            data = getattr(metric, kind)
            for point in data.data_points:
                buckets = exponential(point) if kind == "exponential_histogram" else explicit(point)
                print(json.dumps({
                    "name": metric.name, "unit": metric.unit, "kind": kind, "attributes": attributes(point),
                    "cumulative": data.aggregation_temporality == 2, "count": point.count, "sum": point.sum,
                    "max": point.max if point.HasField("max") else None, "buckets": buckets,
                }), flush=True)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.handle_request()
