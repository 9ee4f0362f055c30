-- The one script of the log that hubs share. It runs alone, so what it does is one step for every hub.
-- KEYS: the stream; its epoch, last seq and sums; idempotency keys, and the order they came in; closed
-- channels, and the order they came in; marks of how many bytes were appended by when; channels by their newest
-- seq.
-- Everything is checked before the first write: Redis takes nothing back.
local log, meta = KEYS[1], KEYS[2]
local op = ARGV[1]
-- The index of channels names the newest seq of each, up to the seq 'indexed' of the log. Channels that it does not
-- name have no event behind 'unindexed'. A hub of an earlier version leaves 'indexed' behind 'last'.
local epoch, last, indexed, unindexed = unpack(
  redis.call('HMGET', meta, 'epoch', 'last', 'indexed', 'unindexed')
)
last, unindexed = tonumber(last or '0'), tonumber(unindexed or '0')
indexed = tonumber(indexed or '-1')

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
    if indexed == last or not epoch and not newest[1] then indexed = base end
    redis.call(
      'HSET', meta, 'epoch', ARGV[3], 'last', text(base), 'run', ARGV[5], 'nonce', '', 'indexed', text(indexed)
    )
    return {ARGV[3], text(base)}
  end
  return {epoch, text(last)}
end

-- vouch EPOCH RUN: a hub that showed the log before this run of the server confirms that nothing is
-- missing.
if op == 'vouch' then
  if epoch ~= ARGV[2] then return 0 end
  redis.call('HSET', meta, 'run', ARGV[3])
  return 1
end

-- state SEQ: the epoch, the last seq, the first one that is kept, the nonce of SEQ, and the run of the
-- server for which a hub has vouched; 'unindexed' if the index has all that was appended.
if op == 'state' then
  local first = first_seq()
  return {
    epoch or '', text(last), first and text(first) or '', nonce_at(tonumber(ARGV[2])) or '',
    redis.call('HGET', meta, 'run') or '', indexed == last and text(unindexed) or ''
  }
end

-- probe: the first command that the user may not perform, of those that follow the first write of an append;
-- or ok. Nothing is changed but a field of meta, the only key of the right type.
if op == 'probe' then
  local function is_denied(...)
    local reply = redis.pcall(...)
    if type(reply) ~= 'table' or not reply.err then return false end
    for _, text in ipairs({"can't run", "can't access", 'permissions'}) do
      if string.find(reply.err, text, 1, true) then return true end
    end
    return false
  end
  local commands = {
    {'HSET', meta, 'format', '1'}, {'HDEL', meta, 'probe'}, {'HLEN', meta}, {'TIME'}, {'XLEN', meta},
    {'XADD', meta, '0-0', 'e', ''}, {'XTRIM', meta, 'MAXLEN', '1'}, {'RPUSH', meta, ''},
    {'LPOP', meta}, {'LINDEX', meta, '0'}, {'XREVRANGE', meta, '+', '-', 'COUNT', '1'},
    {'ZADD', meta, '0', ''}, {'ZSCORE', meta, ''}, {'ZCARD', meta}, {'ZPOPMIN', meta}
  }
  for _, command in ipairs(commands) do
    if is_denied(unpack(command)) then return command[1] end
  end
  for _, key in ipairs(KEYS) do
    if is_denied('HLEN', key) then return 'HLEN ' .. key end
  end
  return 'ok'
end

-- append EPOCH SEQ NONCE EVENTS_MAX BYTES_MAX AGE_MS KEYS_MS KEYS_MAX CLOSED_MS CLOSED_MAX QUIET_MAX COUNT, and
-- for each submission: SCOPE FINGERPRINT KIND, the number of channels and these, the number of entries and these,
-- each behind the number of its channel, from 0.
if not epoch then return {'lost'} end
if epoch ~= ARGV[2] then return {'epoch', epoch} end
local known = tonumber(ARGV[3])
if last < known then return {'lost'} end
local first = first_seq()
if ARGV[4] ~= '' then
  local nonce = nonce_at(known)
  if nonce ~= ARGV[4] then
    -- Allowed if the entry was trimmed: its nonce cannot be compared.
    if nonce or not first or first < known then return {'lost'} end
  end
end
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local bytes_max, keep_ms = tonumber(ARGV[6]), tonumber(ARGV[7])
local keep_keys, keys_max = tonumber(ARGV[8]), tonumber(ARGV[9])
local keep_closed, closed_max = tonumber(ARGV[10]), tonumber(ARGV[11])
local keys, keys_order, closed, closed_order, marks = KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local index = KEYS[8]

-- Bytes that were ever appended, and of these removed; at the last mark, and when; the time of the newest
-- entry, and its nonce.
local sums = redis.call('HMGET', meta, 'total', 'removed', 'marked', 'marked_ms', 'last_ms')
for at = 1, 5 do sums[at] = tonumber(sums[at] or '0') end
local total, removed, marked, marked_ms, last_ms = unpack(sums)
local before, before_total = last, total
local newest = redis.call('HGET', meta, 'nonce') or ''
-- What hubs of an earlier version have appended may be of any channel.
if indexed ~= last then unindexed = last end
-- The newest seqs of channels that this append has entries of.
local newest_of = {}

-- The newest seq of a channel; a later one if the index does not know it.
local function newest_seq(channel)
  if newest_of[channel] then return newest_of[channel] end
  return math.max(tonumber(redis.call('ZSCORE', index, channel) or '0'), unindexed)
end

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

-- Removes entries beyond the bounds of bytes and age. A mark is a seq, the bytes appended through it, and when
-- the last of them were.
local function trim()
  local through
  for _ = 1, 512 do
    local mark = redis.call('LINDEX', marks, 0)
    if not mark then break end
    local seq, bytes, ms = string.match(mark, '^(%d+):(%d+):(%d+)$')
    seq, bytes, ms = tonumber(seq), tonumber(bytes), tonumber(ms)
    local is_removed = first and seq < first
    if not is_removed and total - removed <= bytes_max and ms + keep_ms > now then break end
    redis.call('LPOP', marks)
    removed = bytes
    if not is_removed then through = seq end
  end
  if through then redis.call('XTRIM', log, 'MINID', id(through + 1)) end
  redis.call('XTRIM', log, 'MAXLEN', '~', ARGV[5])
end

local at = 14
local outcomes = {}
local has_written = false
for s = 1, tonumber(ARGV[13]) do
  local scope, sent, kind = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local channels = tonumber(ARGV[at + 3])
  local first_channel = at + 4
  local entries_at = first_channel + channels
  local entries = tonumber(ARGV[entries_at])
  at = entries_at + 1 + 2 * entries
  local outcome
  if scope ~= '' then
    local known_key = look_up(keys, scope, keep_keys)
    if known_key then
      if string.sub(known_key, 1, 16) == sent then
        local from, count = string.match(string.sub(known_key, 17), '^(%d+):(%d+)$')
        outcome = {'replayed', from, count}
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
    local from = last + 1
    for e = 1, entries do
      local channel = ARGV[first_channel + tonumber(ARGV[entries_at + 2 * e - 1])]
      local entry = ARGV[entries_at + 2 * e]
      -- How far behind is the entry before of the same channel. It is in the name of a field, since hubs of an
      -- earlier version take no further field, and do not look at names.
      local link = 'p' .. text(last + 1 - newest_seq(channel))
      -- The server checks its memory before the first write of a script alone.
      local add = has_written and redis.call or redis.pcall
      local added = add('XADD', log, id(last + 1), 'e', entry, link, newest)
      if type(added) == 'table' then
        if string.sub(added.err, 1, 3) ~= 'OOM' then return added end
        outcome = {'full'}
        break
      end
      has_written = true
      last, newest, total = last + 1, string.sub(entry, 2, 9), total + #entry
      newest_of[channel] = last
    end
    if not outcome then
      if scope ~= '' and keys_max > 0 then
        remember(keys, keys_order, scope, sent .. text(from) .. ':' .. entries)
      end
      if kind == 'c' then remember(closed, closed_order, ARGV[first_channel], text(last)) end
      outcome = {'taken', text(from), tostring(entries)}
    end
  end
  outcomes[s] = outcome
end
if has_written then
  -- The mark covers entries before this append, so trimming by it never removes the newest. The
  -- whole log has a hundred marks or so.
  local is_due = before_total - marked >= bytes_max / 128
    or last_ms - marked_ms >= keep_ms / 128 or now - last_ms >= keep_ms / 128
  if before_total > marked and is_due then
    redis.call('RPUSH', marks, text(before) .. ':' .. text(before_total) .. ':' .. text(last_ms))
    marked, marked_ms = before_total, last_ms
  end
  for channel, seq in pairs(newest_of) do redis.call('ZADD', index, text(seq), channel) end
  redis.call(
    'HSET', meta, 'last', text(last), 'nonce', newest, 'total', text(total), 'last_ms', text(now),
    'marked', text(marked), 'marked_ms', text(marked_ms), 'indexed', text(last), 'unindexed', text(unindexed)
  )
end
-- Trimming and pruning run when memory is full, too, and may free some.
local removed_before = removed
trim()
if removed ~= removed_before then redis.call('HSET', meta, 'removed', text(removed)) end
prune(keys, keys_order, keep_keys, keys_max)
prune(closed, closed_order, keep_closed, closed_max)
-- The index has room for all channels of the log, and for some that have no event in it any more.
local kept = redis.call('XLEN', log)
local excess = redis.call('ZCARD', index) - kept - tonumber(ARGV[12])
if excess > 0 then
  local dropped = redis.call('ZPOPMIN', index, math.min(excess, 1024))
  unindexed = math.max(unindexed, tonumber(dropped[#dropped]))
  redis.call('HSET', meta, 'unindexed', text(unindexed))
end
return {'ok', text(last), outcomes, text(total - removed), kept}
