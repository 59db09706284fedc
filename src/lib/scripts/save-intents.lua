#!lua flags=allow-oom
-- Notes what is about to be written to leads, event by event: only for who holds the leases on all of them, so that it is
-- also the last look before a write. It may run when Redis is out of memory: writing is what drains the pipeline.
-- What was noted before and is gone has got its receipt meanwhile: noted again it would stay for ever.
--
-- KEYS: leases, intents
-- ARGV: owner; then for each lead its email, the number of events, and for each of these its id, its intent and whether it
--       was noted before (1|0)
-- Returns the emails whose lease is lost; then nothing was saved
local owner, now = ARGV[1], now_ms()
local emails, added = {}, {}
local at = 2
while at <= #ARGV do
  local intents = {}
  for n = at + 2, at + 1 + tonumber(ARGV[at + 1]) * 3, 3 do
    intents[ARGV[n]] = { text = ARGV[n + 1], was_noted = ARGV[n + 2] == '1' }
  end
  emails[#emails + 1] = ARGV[at]
  added[#added + 1] = intents
  at = at + 2 + tonumber(ARGV[at + 1]) * 3
end

-- In parts, as Lua hands over some thousand values at once and no more.
local function each(key, run)
  for from = 1, #emails, PART do
    for i, value in ipairs(redis.call('HMGET', key, unpack(emails, from, math.min(from + PART - 1, #emails)))) do
      run(from + i - 1, value)
    end
  end
end

local lost, changes = {}, {}
each(KEYS[1], function(i, lease)
  local holder, ends = string.match(lease or '', '^(.*)|(%d+)$')
  if holder ~= owner or tonumber(ends) <= now then lost[#lost + 1] = emails[i] end
end)
if #lost > 0 then return lost end
each(KEYS[2], function(i, saved)
  local intents = saved and cjson.decode(saved) or {}
  for event, intent in pairs(added[i]) do
    if not intent.was_noted or intents[event] then intents[event] = intent.text end
  end
  if next(intents) then
    changes[#changes + 1] = emails[i]
    changes[#changes + 1] = cjson.encode(intents)
  end
end)
for from = 1, #changes, PART do redis.call('HSET', KEYS[2], unpack(changes, from, math.min(from + PART - 1, #changes))) end
return {}
