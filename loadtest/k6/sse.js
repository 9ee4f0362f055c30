// Server-Sent Events with k6 as it is. Its HTTP client gives a body only when it has ended, so the
// streams are bounded: in each round every reader opens a stream of a new channel, a publisher waits
// until all are there, publishes, and closes the channel, which ends the streams. Every stream must
// then hold every event once, in order, and the hub's word that the channel is closed.
import http from 'k6/http';
import { check, sleep } from 'k6';
import { Counter } from 'k6/metrics';

const HUB = __ENV.HUB_URL;
const READERS = Number(__ENV.READERS || 500);
const EVENTS = Number(__ENV.EVENTS || 50); // in each round
const ROUNDS = Number(__ENV.ROUNDS || 5);
const MAX_SECONDS = 30 + 10 * ROUNDS;

const received = new Counter('events_received');

const times = { iterations: ROUNDS, maxDuration: `${MAX_SECONDS}s`, gracefulStop: '1s' };

export const options = {
  scenarios: {
    readers: { executor: 'per-vu-iterations', exec: 'read', vus: READERS, ...times },
    publisher: { executor: 'per-vu-iterations', exec: 'publish', vus: 1, ...times },
  },
  thresholds: {
    checks: ['rate==1'],
    http_req_failed: ['rate==0'],
    events_received: [`count==${READERS * EVENTS * ROUNDS}`],
  },
};

export function read() {
  const stream = http.get(`${channel(__ITER)}/events`, {
    headers: { Accept: 'text/event-stream' },
    tags: { name: 'stream' },
    timeout: `${MAX_SECONDS}s`,
  });
  const events = blocks(stream.body);
  check(stream, {
    'a stream': (s) => s.status === 200 && s.headers['Content-Type'].startsWith('text/event-stream'),
    'every event once, in order': () =>
      events.filter((e) => !e.type).map((e) => e.data).join() === expected,
    'each with a position': () => events.every((e) => e.id !== undefined),
    'the channel is closed': () => events.at(-1)?.type === 'visnyk.closed',
  });
  received.add(events.filter((e) => !e.type).length);
}

export function publish() {
  const url = channel(__ITER);
  for (;;) {
    const info = http.get(url, { tags: { name: 'info' }, responseCallback: FOUND_OR_NOT });
    if (info.status === 200 && info.json('subscribers') === READERS) break;
    sleep(0.05);
  }
  for (let number = 0; number < EVENTS; number += 1) {
    const answer = http.post(`${url}/events`, `${number}`, { tags: { name: 'publish' } });
    check(answer, { acknowledged: (a) => a.status === 201 });
  }
  const closed = http.del(url, null, { tags: { name: 'close' } });
  check(closed, { closed: (a) => a.status === 204 });
}

// The events in the text of a stream.
function blocks(text) {
  const events = [];
  for (const block of (text || '').split('\n\n')) {
    const event = {};
    for (const line of block.split('\n')) {
      const [, field, value] = /^(event|data|id): ?(.*)$/.exec(line) || [];
      if (field === 'event') event.type = value;
      else if (field) event[field] = value;
    }
    if (event.data !== undefined) events.push(event);
  }
  return events;
}

const channel = (round) => `${HUB}/v1/channels/k6-sse-${round}`;
const expected = Array.from({ length: EVENTS }, (_, number) => number).join();
const FOUND_OR_NOT = http.expectedStatuses(200, 404);
