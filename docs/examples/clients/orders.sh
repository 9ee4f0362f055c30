#!/usr/bin/env bash
# Follows orders and publishes to them with curl: orders.sh [follow | paid TOTAL]
events=${VISNYK_URL:-http://127.0.0.1:3000}/v1/channels/orders%2F7/events
position=orders.position # where it goes on after a restart
token=(${VISNYK_TOKEN:+-H "Authorization: Bearer $VISNYK_TOKEN"})

publish() {
  # Attempts under one key: it is published once.
  curl -sS --fail-with-body --retry 5 --retry-connrefused -H "Idempotency-Key: $(date +%s%N)-$$" "${token[@]}" \
    --data-binary "{\"total\":$1}" "$events?type=paid"
}

# Reads one answer, then its status. Fails if another attempt would be answered in the same way.
read_events() {
  local type=message data='' id=''
  while IFS= read -r line; do
    case $line in
      'event: '*) type=${line#event: } ;;
      'data: '*) data=${line#data: } ;;
      'id: '*) id=${line#id: } ;;
      '')
        case $type in
          paid) [[ $data =~ \"total\":([0-9.]+) ]] && echo "paid ${BASH_REMATCH[1]}" ;;
          visnyk.gap) echo "events are missing: $data" >&2 ;;
        esac
        [ -z "$id" ] || echo "$id" >"$position"
        type=message data='' id=''
        ;;
      'status: 204') echo 'the channel was deleted' >&2 && return 1 ;;
      'status: 401' | 'status: 403' | 'status: 400') echo "refused: $refusal" >&2 && return 1 ;;
      '{'*) refusal=$line ;;
    esac
  done
}

follow() {
  # A heartbeat comes every 15 seconds: 60 without one mean that the connection is dead.
  while curl -sN --speed-limit 1 --speed-time 60 -H 'Accept: text/event-stream' "${token[@]}" \
    -H "Last-Event-ID: $(cat "$position" 2>/dev/null || echo earliest)" -w '\nstatus: %{http_code}\n' "$events" |
    read_events; do
    echo 'trying again' >&2
    sleep 2
  done
  exit 1
}

case ${1:-follow} in
  paid) publish "$2" ;;
  *) follow ;;
esac
