// The usual Express way to broadcast Server-Sent Events: each channel is a set of open responses, a
// publish writes to each of them. One process, as it is run by most; NODE_ENV=production is
// Express's own advice for speed.
import express from 'express';

const channels = new Map();
const app = express();
app.disable('x-powered-by');

app.get('/:channel', (req, res) => {
  const { channel } = req.params;
  if (!channels.has(channel)) channels.set(channel, new Set());
  const streams = channels.get(channel);
  streams.add(res);
  res.on('close', () => streams.delete(res));
  res.set({ 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
  res.flushHeaders();
});

app.post('/:channel', express.text({ type: '*/*', limit: '1mb' }), (req, res) => {
  const frame = `data: ${req.body}\n\n`;
  for (const stream of channels.get(req.params.channel) ?? []) stream.write(frame);
  res.sendStatus(204);
});

// More than Node's 511: clients that come all at once would else wait for TCP to try again.
const server = app.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  console.error(`listening on http://127.0.0.1:${server.address().port}`);
});
