#!lua flags=allow-oom
-- A worker's share of what a provider allows, all workers together: how many calls may run at once, and when the next ones
-- may begin. What was granted is counted until it is given back or runs out, so that the sum never exceeds the limit, also
-- while workers die. After a 429 the limit shrinks for all, and grows again slowly with successes.
--
-- KEYS[1] the provider's limit
-- ARGV: worker, calls at once at the most, calls a second at the most, at the least, grant (ms), calls that run, that wait,
--   that are expected, successes since the last time, 429s since then (0|1), wait that came with them (ms),
--   calls left for the day (-1: not told)
-- Returns {now, calls that may run, calls that may begin, when the first (ms from now), interval (ms), until (ms from now),
--   hold (ms from now), when to ask again (ms from now), 1 where others wait for what is given back, calls at once allowed,
--   calls a second allowed × 1000}
local key, worker = KEYS[1], ARGV[1]
local conc_max, rate_max, rate_min, grant_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local running, queued, expected = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local oks, refused, asked_ms, left = tonumber(ARGV[9]), ARGV[10] == '1', tonumber(ARGV[11]), tonumber(ARGV[12])

local SHRINK_EVERY_MS = 1000
local GROW_EVERY_MS = 1000
-- From nothing to all in so many steps.
local GROW_STEPS = 60
local BACK_OFF_MS, BACK_OFF_MS_MAX = 500, 4000
local WAITING_MS = 800
local HORIZON_MS = 1000
-- An instant may be used a little late; as that bunches calls, they are spaced a little wider than the rate says.
local LATE_MS, SPACING = 100, 1.1
-- What is left of a day's calls is not spent faster than in so many seconds, once it is told.
local LEFT_S, LEFT_KNOWN_MS = 600, 600000
-- The longest that a provider's wish to wait is heeded, and any rate spaces calls by less: what lies further ahead was
-- written before the clock went back.
local AHEAD_MS_MAX = 75000
local KEPT_MS = 3600000

local now = now_ms()
local state, others = {}, {}
local flat = redis.call('HGETALL', key)
for i = 1, #flat, 2 do
  local id = string.match(flat[i], '^w:(.*)$')
  if id then others[id] = cjson.decode(flat[i + 1]) else state[flat[i]] = tonumber(flat[i + 1]) end
end
local mine = others[worker] or {}
others[worker] = nil
local changes, gone = {}, {}
local function set(name, value)
  state[name] = value
  changes[#changes + 1] = name
  changes[#changes + 1] = string.format('%.3f', value)
end
local function at(name) return state[name] or 0 end
for _, name in ipairs({ 'hold', 'tat' }) do
  if at(name) > now + AHEAD_MS_MAX then state[name] = 0 end
end
for _, name in ipairs({ 'shrunk', 'grown', 'leftat' }) do
  if at(name) > now then state[name] = 0 end
end

-- What the provider said.
local conc = math.min(conc_max, state.conc or conc_max)
local rate = math.min(rate_max, state.rate or rate_max)
if refused then
  if now - at('shrunk') >= SHRINK_EVERY_MS then
    local seen = math.max(at('count'), at('before'))
    conc = math.max(1, conc / 2)
    rate = math.max(rate_min, math.min(rate, seen > 0 and seen or rate) / 2)
    set('shrunk', now)
    set('strikes', at('strikes') + 1)
    set('conc', conc)
    set('rate', rate)
  end
  local back_off = math.min(BACK_OFF_MS_MAX, BACK_OFF_MS * 2 ^ at('strikes'))
  set('hold', math.max(at('hold'), now + math.max(asked_ms, back_off)))
elseif oks > 0 and now >= at('hold') then
  if at('strikes') > 0 then set('strikes', 0) end
  local is_whole = conc >= conc_max and rate >= rate_max
  if not is_whole and now - math.max(at('grown'), at('shrunk')) >= GROW_EVERY_MS then
    conc = math.min(conc_max, conc + conc_max / GROW_STEPS)
    rate = math.min(rate_max, rate + rate_max / GROW_STEPS)
    set('grown', now)
    set('conc', conc)
    set('rate', rate)
  end
end
if left >= 0 then
  set('left', left)
  set('leftat', now)
end
if state.left and now - at('leftat') < LEFT_KNOWN_MS then
  rate = math.max(math.min(rate, rate_min), math.min(rate, state.left / LEFT_S))
end

-- Calls at once: a fair share where several ask, and the first to wait is the first to get what falls free.
local limit = math.max(1, math.floor(conc + 0.001))
local granted_to_others, askers, unmet, ahead = 0, 1, 0, 0
local since = (queued > 0 and (mine.g or 0) == 0) and (mine.s or now) or now
for id, other in pairs(others) do
  -- It lasts as long from now on, where the clock went back: its worker may live.
  if other.u > now + AHEAD_MS_MAX then
    other.u = now + grant_ms
    changes[#changes + 1] = 'w:' .. id
    changes[#changes + 1] = cjson.encode(other)
  end
  if other.u <= now then
    gone[#gone + 1] = 'w:' .. id
    others[id] = nil
  else
    granted_to_others = granted_to_others + other.g
    askers = askers + 1
    if other.q > 0 and other.g == 0 and other.s < since then ahead = ahead + 1 end
  end
end
local share = math.max(1, math.floor(limit / askers))
local others_wait = false
for _, other in pairs(others) do
  local missing = math.max(0, math.min(other.q, share - other.g))
  unmet = unmet + missing
  if missing > 0 then others_wait = true end
end
local free = limit - granted_to_others
local allowed = math.min(free, math.max(math.min(share, free - ahead), free - unmet))
local granted = math.max(running, math.min(running + queued, allowed))
if now < at('hold') then granted = running end

-- Beginnings: far from any limit a second's worth at once, else each at its own instant, evenly spaced over all workers.
local window = math.floor(now / 1000)
if at('window') ~= window then
  set('before', at('window') == window - 1 and at('count') or 0)
  set('count', 0)
  set('window', window)
end
-- Those who wait and have had nothing of this second.
local left_out = 0
for _, other in pairs(others) do
  if (other.b or 0) > 0 and other.w ~= window then left_out = left_out + 1 end
end
local begins, first, interval, valid, again = 0, 0, 0, 0, 0
local is_tight = rate < rate_max or rate_max < 5
if now < at('hold') then
  again = at('hold') - now
elseif not is_tight then
  local room = math.max(0, math.floor(rate) - at('count'))
  local part = math.ceil(room / (left_out + 1))
  begins = math.max(math.min(queued, part), math.min(queued + expected, math.ceil(room / askers)))
  valid = (window + 1) * 1000 - now
  if begins < queued then again = valid end
else
  interval = SPACING * 1000 / rate
  local from = math.max(at('tat'), now)
  local room = math.max(0, math.ceil((now + HORIZON_MS - from) / interval))
  -- An instant is one of all workers: none is given to who has no slot to use it.
  begins = math.min(queued, room, math.max(1, math.ceil(room / askers)), math.max(0, granted - running))
  first, valid = from - now, LATE_MS
  if begins > 0 then set('tat', from + begins * interval) end
  again = math.max(0, at('tat') - now - HORIZON_MS + 1)
end
if begins > 0 then set('count', at('count') + begins) end

if running + queued == 0 then
  granted = 0
  gone[#gone + 1] = 'w:' .. worker
else
  local until_ms = now + (granted > 0 and grant_ms or WAITING_MS)
  changes[#changes + 1] = 'w:' .. worker
  changes[#changes + 1] = cjson.encode({ g = granted, q = math.max(0, running + queued - granted), s = since, u = until_ms,
    b = math.max(0, queued - begins), w = begins > 0 and window or mine.w })
end

if #changes > 0 then redis.call('HSET', key, unpack(changes)) end
if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
redis.call('PEXPIRE', key, KEPT_MS)
return { now, granted, begins, math.ceil(first), math.ceil(interval), math.ceil(valid), math.ceil(math.max(0, at('hold') - now)),
  math.ceil(again), others_wait and 1 or 0, limit, math.floor(rate * 1000) }
