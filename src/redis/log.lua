-- The one script of the log that hubs share. It runs alone, so what it does is one step for every hub.
-- KEYS: the stream; its epoch and last seq; idempotency keys, and the order they came in; closed channels,
-- and the order they came in.
-- Everything is checked before the first write: Redis takes nothing back.
local log, meta = KEYS[1], KEYS[2]
local op = ARGV[1]
local epoch, last = unpack(redis.call('HMGET', meta, 'epoch', 'last'))
last = tonumber(last or '0')

-- Seqs have more digits than tostring() writes.
local function text(number) return string.format('%.0f', number) end
local function id(seq) return text(seq) .. '-0' end

local function nonce_at(seq)
  local found = redis.call('XRANGE', log, id(seq), id(seq))
  if found[1] then return string.sub(found[1][2][2], 2, 9) end
end

local function first_seq()
  local found = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)
  if found[1] then return tonumber(string.match(found[1][1], '^%d+')) end
end

-- begin EXPECTED NEW BASE RUN: another epoch, if the epoch is still the expected one ('' for none at all).
if op == 'begin' then
  if (epoch or '') == ARGV[2] then
    -- One seq is left out at least, so that a reader notices.
    local base = math.max(tonumber(ARGV[4]), last + 1)
    local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
    if newest[1] then base = math.max(base, tonumber(string.match(newest[1][1], '^%d+')) + 1) end
    redis.call('HSET', meta, 'epoch', ARGV[3], 'last', text(base), 'run', ARGV[5])
    return {ARGV[3], text(base)}
  end
  return {epoch, text(last)}
end

-- vouch EPOCH RUN: a hub that has shown the log before this run of the server finds all of that in it.
if op == 'vouch' then
  if epoch ~= ARGV[2] then return 0 end
  redis.call('HSET', meta, 'run', ARGV[3])
  return 1
end

-- state SEQ: the epoch, the last seq, the first one that is kept, the nonce of SEQ, and the run of the
-- server for which a hub has vouched.
if op == 'state' then
  local first = first_seq()
  return {
    epoch or '', text(last), first and text(first) or '', nonce_at(tonumber(ARGV[2])) or '',
    redis.call('HGET', meta, 'run') or ''
  }
end

-- append EPOCH SEQ NONCE EVENTS_MAX KEYS_MS KEYS_MAX CLOSED_MS CLOSED_MAX COUNT, and for each submission:
-- SCOPE FINGERPRINT KIND, the number of channels and these, the number of entries and these.
if not epoch then return {'lost'} end
if epoch ~= ARGV[2] then return {'epoch', epoch} end
local known = tonumber(ARGV[3])
if last < known then return {'lost'} end
if ARGV[4] ~= '' then
  local nonce = nonce_at(known)
  if nonce ~= ARGV[4] then
    local first = first_seq()
    -- Behind what is kept nothing can be compared.
    if nonce or not first or first < known then return {'lost'} end
  end
end
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local keep_keys, keys_max = tonumber(ARGV[6]), tonumber(ARGV[7])
local keep_closed, closed_max = tonumber(ARGV[8]), tonumber(ARGV[9])
local keys, keys_order, closed, closed_order = KEYS[3], KEYS[4], KEYS[5], KEYS[6]

-- The value of a name in a table, if it has not expired: values begin with their time and a colon.
local function look_up(values, name, keep)
  local value = redis.call('HGET', values, name)
  if not value then return nil end
  local colon = string.find(value, ':', 1, true)
  if tonumber(string.sub(value, 1, colon - 1)) + keep <= now then return nil end
  return string.sub(value, colon + 1)
end

local function remember(values, order, name, value)
  redis.call('HSET', values, name, text(now) .. ':' .. value)
  redis.call('RPUSH', order, text(now) .. ':' .. name)
end

-- Forgets what has expired, and the oldest above the cap.
local function prune(values, order, keep, max)
  for _ = 1, 512 do
    local oldest = redis.call('LINDEX', order, 0)
    if not oldest then return end
    local colon = string.find(oldest, ':', 1, true)
    local time = string.sub(oldest, 1, colon)
    if tonumber(string.sub(oldest, 1, colon - 1)) + keep > now
        and redis.call('HLEN', values) <= max then
      return
    end
    redis.call('LPOP', order)
    local name = string.sub(oldest, colon + 1)
    local value = redis.call('HGET', values, name)
    if value and string.sub(value, 1, colon) == time then redis.call('HDEL', values, name) end
  end
end

local at = 11
local outcomes = {}
for s = 1, tonumber(ARGV[10]) do
  local scope, sent, kind = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local channels = tonumber(ARGV[at + 3])
  local first_channel = at + 4
  local entries_at = first_channel + channels
  local entries = tonumber(ARGV[entries_at])
  at = entries_at + 1 + entries
  local outcome
  if scope ~= '' then
    local known_key = look_up(keys, scope, keep_keys)
    if known_key then
      if string.sub(known_key, 1, 16) == sent then
        local first, count = string.match(string.sub(known_key, 17), '^(%d+):(%d+)$')
        outcome = {'replayed', first, count}
      else
        outcome = {'reused'}
      end
    end
  end
  if not outcome then
    for c = 0, channels - 1 do
      if look_up(closed, ARGV[first_channel + c], keep_closed) then
        outcome = {'closed', ARGV[first_channel + c]}
        break
      end
    end
  end
  if not outcome then
    local first = last + 1
    for e = 1, entries do
      last = last + 1
      redis.call('XADD', log, id(last), 'e', ARGV[entries_at + e])
    end
    if scope ~= '' and keys_max > 0 then
      remember(keys, keys_order, scope, sent .. text(first) .. ':' .. entries)
    end
    if kind == 'c' then remember(closed, closed_order, ARGV[first_channel], text(last)) end
    outcome = {'taken', text(first), tostring(entries)}
  end
  outcomes[s] = outcome
end
redis.call('HSET', meta, 'last', text(last))
redis.call('XTRIM', log, 'MAXLEN', '~', ARGV[5])
prune(keys, keys_order, keep_keys, keys_max)
prune(closed, closed_order, keep_closed, closed_max)
return {'ok', text(last), outcomes}
