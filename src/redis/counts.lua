-- How many subscribers each hub has, by channel. It runs alone on the server.
-- KEYS: the hubs, by the time at which their reports expire. The report of a hub is in a key of its own, which
-- expires, too. Its fields: number, of its newest part; at_ms, when it was complete last; is_whole, whether
-- a channel that it lacks has no subscribers; patterns, the time of the part that had them last, 0 if there are too
-- many; text, these patterns; and for each channel 'c' with its name: 'STREAMS POLLERS'.
local hubs, op = KEYS[1], ARGV[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local function text(number) return string.format('%.0f', number) end
local function report_of(hub) return hubs .. ':' .. hub end

-- report HUB NUMBER EXPIRY_MS IS_LAST IS_WHOLE ('all' | 'unchanged' | 'too many') PATTERNS, then channels with
-- their values, '' if they have no subscribers. Part 1 replaces a report. Any other one continues it: the answer
-- is 0 if the part before is missing, else how many hubs have a report.
if op == 'report' then
  local report, number = report_of(ARGV[2]), tonumber(ARGV[3])
  if number == 1 then
    redis.call('UNLINK', report)
    redis.call('HSET', report, 'at_ms', text(now), 'is_whole', '0', 'patterns', '0')
  elseif redis.call('HGET', report, 'number') ~= text(number - 1) then
    return 0
  end
  redis.call('HSET', report, 'number', ARGV[3])
  for at = 9, #ARGV, 2 do
    if ARGV[at + 1] == '' then
      redis.call('HDEL', report, 'c' .. ARGV[at])
    else
      redis.call('HSET', report, 'c' .. ARGV[at], ARGV[at + 1])
    end
  end
  if ARGV[7] == 'all' then
    -- Not the number of the part: those of the next report begin anew, and hubs keep the patterns that they have read.
    redis.call('HSET', report, 'patterns', text(now), 'text', ARGV[8])
  elseif ARGV[7] == 'too many' then
    redis.call('HSET', report, 'patterns', '0', 'text', '')
  end
  if ARGV[5] == '1' then redis.call('HSET', report, 'at_ms', text(now), 'is_whole', ARGV[6]) end
  redis.call('PEXPIRE', report, ARGV[4])
  local known = redis.call('HGETALL', hubs)
  for at = 1, #known, 2 do
    if tonumber(known[at + 1]) <= now then redis.call('HDEL', hubs, known[at]) end
  end
  redis.call('HSET', hubs, ARGV[2], text(now + tonumber(ARGV[4])))
  redis.call('PEXPIRE', hubs, ARGV[4])
  return redis.call('HLEN', hubs)
end

-- leave HUB: its report is not needed any more.
if op == 'leave' then
  redis.call('HDEL', hubs, ARGV[2])
  return redis.call('UNLINK', report_of(ARGV[2]))
end

-- patterns HUB: the time of its patterns, and these.
if op == 'patterns' then
  local found = redis.call('HMGET', report_of(ARGV[2]), 'patterns', 'text')
  return {found[1] or '', found[2] or ''}
end

-- ask HUB, then channels: 0 if the report of that hub is not there, so that others may be missing, too; else of
-- each other hub its name, the age of its report, whether that is whole, the time of its patterns, and its
-- value for each channel.
local known = redis.call('HGETALL', hubs)
local answer = {}
local has_own = false
for at = 1, #known, 2 do
  if known[at] == ARGV[2] then
    has_own = true
  else
    local fields = {'at_ms', 'is_whole', 'patterns'}
    for channel = 3, #ARGV do fields[channel + 1] = 'c' .. ARGV[channel] end
    local found = redis.call('HMGET', report_of(known[at]), unpack(fields))
    -- It may have expired before its hub has.
    if found[1] then
      local row = {known[at], text(now - tonumber(found[1])), found[2], found[3]}
      for channel = 4, #fields do row[channel + 1] = found[channel] or '' end
      answer[#answer + 1] = row
    end
  end
end
return has_own and answer or 0
