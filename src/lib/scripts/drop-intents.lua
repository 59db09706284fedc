#!lua flags=allow-oom
-- Forgets the intents of events whose receipts stand in the stream. Those of other events stay: they are still in doubt.
--
-- KEYS[1] intents
-- ARGV: email, event id, email, …
local events, emails = {}, {}
for i = 1, #ARGV, 2 do
  local email = ARGV[i]
  if not events[email] then
    events[email] = {}
    emails[#emails + 1] = email
  end
  events[email][ARGV[i + 1]] = true
end
local gone, left = {}, {}
for from = 1, #emails, PART do
  local to = math.min(from + PART - 1, #emails)
  for i, saved in ipairs(redis.call('HMGET', KEYS[1], unpack(emails, from, to))) do
    local email, rest = emails[from + i - 1], {}
    for event, intent in pairs(saved and cjson.decode(saved) or {}) do
      if not events[email][event] then rest[event] = intent end
    end
    if next(rest) then
      left[#left + 1] = email
      left[#left + 1] = cjson.encode(rest)
    elseif saved then
      gone[#gone + 1] = email
    end
  end
end
for from = 1, #gone, PART do redis.call('HDEL', KEYS[1], unpack(gone, from, math.min(from + PART - 1, #gone))) end
for from = 1, #left, PART do redis.call('HSET', KEYS[1], unpack(left, from, math.min(from + PART - 1, #left))) end
return #gone
