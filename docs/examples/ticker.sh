#!/usr/bin/env bash
# Replays ten years of monthly stock prices as a live ticker, one channel for each symbol.
#
#   docs/examples/ticker.sh [EVENTS_PER_SECOND]
#
# The prices are stocks.csv of the npm package vega-datasets, fetched into a directory that is
# removed at the end. VISNYK_URL says where the hub is, VISNYK_BIN where the command is.
set -euo pipefail

rate=${1:-20}
visnyk=${VISNYK_BIN:-visnyk}
package=vega-datasets@3.2.1

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

npm pack --silent --prefer-offline --pack-destination "$directory" "$package" >/dev/null
tar -xzf "$directory"/vega-datasets-*.tgz -C "$directory" package/data/stocks.csv

# The file has one symbol after the other and dates like "Jan 1 2000"; a ticker goes by date.
awk -F, '
  NR == 1 { next }
  {
    sub(/\r$/, "", $3)
    split($2, date, " ")
    month = (index("JanFebMarAprMayJunJulAugSepOctNovDec", date[1]) + 2) / 3
    day = sprintf("%04d-%02d-%02d", date[3], month, date[2])
    printf "{\"channel\":\"stocks/%s\",\"type\":\"price\",", $1
    printf "\"data\":{\"date\":\"%s\",\"symbol\":\"%s\",\"price\":%s}}\t%s\n", day, $1, $3, day
  }
' "$directory/package/data/stocks.csv" | sort -t "$(printf '\t')" -k 2,2 -s | cut -f 1 \
  > "$directory/ticks.ndjson"

"$visnyk" publish stocks --file "$directory/ticks.ndjson" --rate "$rate"
