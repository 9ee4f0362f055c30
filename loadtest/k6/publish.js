// Publishes at a steady rate from several connections; each answer must be an acknowledgement.
import http from 'k6/http';
import { check } from 'k6';

const HUB = __ENV.HUB_URL;
const RATE = Number(__ENV.RATE || 500); // events a second
const DURATION_S = Number(__ENV.DURATION_S || 30);
const BODY = 'x'.repeat(Number(__ENV.BYTES || 128));
const ANSWER_P99_MS_MAX = Number(__ENV.ANSWER_P99_MS_MAX || 100);
const DROPPED_MAX = Number(__ENV.DROPPED_MAX || 0);
const CHANNELS = 10;

export const options = {
  scenarios: {
    publish: {
      executor: 'constant-arrival-rate',
      rate: RATE,
      timeUnit: '1s',
      duration: `${DURATION_S}s`,
      preAllocatedVUs: 50,
    },
  },
  thresholds: {
    checks: ['rate==1'],
    http_req_failed: ['rate==0'],
    // An iteration is dropped when all 50 publishers wait for an answer.
    dropped_iterations: [`count<=${DROPPED_MAX}`],
    http_req_duration: [`p(99)<${ANSWER_P99_MS_MAX}`],
  },
};

export default function () {
  const channel = `k6-publish-${__ITER % CHANNELS}`;
  const answer = http.post(`${HUB}/v1/channels/${channel}/events`, BODY, {
    headers: { 'Content-Type': 'text/plain' },
    tags: { name: 'publish' },
  });
  check(answer, {
    acknowledged: (a) => a.status === 201 && a.json('channel') === channel,
  });
}
