// Long-polling: every poller follows one channel by position, and must see every event once and in
// order, while a publisher publishes at a steady rate. `receive_ms` is from publish to receipt.
import http from 'k6/http';
import { check, fail, sleep } from 'k6';
import { Counter, Trend } from 'k6/metrics';

const HUB = __ENV.HUB_URL;
const POLLERS = Number(__ENV.POLLERS || 200);
const EVENTS = Number(__ENV.EVENTS || 200);
const RATE = Number(__ENV.RATE || 10); // events a second
const RECEIVE_P99_MS_MAX = Number(__ENV.RECEIVE_P99_MS_MAX || 250);
const CHANNEL = `${HUB}/v1/channels/k6-poll`;
const MAX_SECONDS = EVENTS / RATE + 30;

const received = new Counter('events_received');
const receiveMs = new Trend('receive_ms', true);

export const options = {
  scenarios: {
    pollers: {
      executor: 'per-vu-iterations',
      exec: 'poll',
      vus: POLLERS,
      iterations: 1,
      maxDuration: `${MAX_SECONDS}s`,
      gracefulStop: '1s',
    },
    publisher: {
      executor: 'per-vu-iterations',
      exec: 'publish',
      vus: 1,
      iterations: 1,
      maxDuration: `${MAX_SECONDS}s`,
      gracefulStop: '1s',
    },
  },
  thresholds: {
    checks: ['rate==1'],
    http_req_failed: ['rate==0'],
    events_received: [`count==${POLLERS * EVENTS}`],
    receive_ms: [`p(99)<${RECEIVE_P99_MS_MAX}`],
  },
};

export function poll() {
  let position = 'now';
  let next = 0;
  while (next < EVENTS) {
    const answer = http.get(`${CHANNEL}/poll?timeout=20&last_event_id=${position}`, {
      tags: { name: 'poll' },
    });
    if (!check(answer, { answered: (a) => a.status === 200 || a.status === 204 })) {
      fail(`poll: ${answer.status} ${answer.body}`);
    }
    position = answer.headers['Last-Event-Id'];
    if (answer.status === 204) continue;
    const now = Date.now();
    for (const event of answer.json('events')) {
      const [number, at] = event.data.split(' ').map(Number);
      if (!check(number, { 'in order, none lost': (n) => n === next })) {
        fail(`event ${number} came where ${next} was due`);
      }
      next += 1;
      receiveMs.add(now - at);
    }
    received.add(answer.json('events').length);
  }
}

export function publish() {
  waitForPollers();
  const begin = Date.now();
  for (let number = 0; number < EVENTS; number += 1) {
    const due = begin + (number * 1000) / RATE;
    sleep(Math.max(0, due - Date.now()) / 1000);
    const body = `${number} ${Date.now()}`;
    const answer = http.post(`${CHANNEL}/events`, body, { tags: { name: 'publish' } });
    check(answer, { acknowledged: (a) => a.status === 201 });
  }
}

// A poll from `now` sees what is published after it came.
function waitForPollers() {
  for (;;) {
    const info = http.get(CHANNEL, { tags: { name: 'info' }, responseCallback: FOUND_OR_NOT });
    if (info.status === 200 && info.json('pollers') === POLLERS) return;
    sleep(0.05);
  }
}

const FOUND_OR_NOT = http.expectedStatuses(200, 404);
