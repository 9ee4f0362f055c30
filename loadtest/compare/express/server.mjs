// The usual Express way to broadcast Server-Sent Events: each channel is a set of open responses, a
// publish writes to each of them. A poll is a response that waits among others; a channel keeps its
// last event for late requests. One process, as it is run by most; NODE_ENV=production is
// Express's own advice for speed.
import express from 'express';

const channels = new Map();
const channel = (name) => {
  if (!channels.has(name)) {
    channels.set(name, { streams: new Set(), polls: new Set(), events: 0, last: '' });
  }
  return channels.get(name);
};
const app = express();
app.disable('x-powered-by');

app.get('/:channel', (req, res) => {
  const { streams } = channel(req.params.channel);
  streams.add(res);
  res.on('close', () => streams.delete(res));
  res.set({ 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
  res.flushHeaders();
});

const answer = (res, { events, last }) => {
  res.set({ 'Content-Type': 'text/plain', 'Last-Event-ID': String(events) }).send(last);
};

app.get('/poll/:channel', (req, res) => {
  const from = channel(req.params.channel);
  if (Number(req.get('Last-Event-ID') ?? from.events) < from.events) return answer(res, from);
  from.polls.add(res);
  res.setTimeout(60_000, () => {
    from.polls.delete(res);
    res.set('Last-Event-ID', String(from.events)).sendStatus(204);
  });
  res.on('close', () => from.polls.delete(res));
});

app.post('/:channel', express.text({ type: '*/*', limit: '1mb' }), (req, res) => {
  const to = channel(req.params.channel);
  const frame = `data: ${req.body}\n\n`;
  for (const stream of to.streams) stream.write(frame);
  to.events += 1;
  to.last = req.body;
  for (const poll of to.polls) answer(poll, to);
  to.polls.clear();
  res.sendStatus(204);
});

// More than Node's 511: clients that come all at once would else wait for TCP to try again.
const server = app.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  console.error(`listening on http://127.0.0.1:${server.address().port}`);
});
