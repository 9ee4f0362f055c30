"""One oha result from stdin as a line of a table: check.py NAME STATUS REQUESTS.

Exit code 1 unless that many requests were answered, all with that status.
"""

import json
import sys

name, status, requests = sys.argv[1], sys.argv[2], int(sys.argv[3])
result = json.load(sys.stdin)
statuses = result["statusCodeDistribution"]
if statuses != {status: requests} or result["errorDistribution"]:
    sys.exit(f"{name}: {statuses} {result['errorDistribution']}, not {requests} times {status}")

percentiles = result["latencyPercentiles"]
summary = result["summary"]
microseconds = [percentiles["p50"], percentiles["p99"], summary["slowest"]]
figures = "".join(f" {seconds * 1e6:10.0f}" for seconds in microseconds)
print(f"{name:28} {summary['requestsPerSec']:12.0f}{figures}")
