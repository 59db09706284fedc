#!lua flags=allow-oom
-- Leases on leads: who may write them to the CRM now. One hash for all, so that a batch costs as much as one lead. A lease
-- that is gone is never made again by `keep`: somebody else may have held and given up the lead in between. What died with its
-- worker goes with the hash, once the last of all leases has ended.
--
-- KEYS: leases, intents
-- ARGV: verb (take | keep | release), owner, for how long (ms), then the emails
-- Returns {now, the emails that are the owner's after the call (for release: those it gave up), their intents (for take)}
-- Further ahead than so many leases it was taken before the clock went back; workers need not agree on how long one is.
local LEASES_AHEAD = 10

local verb, owner, lasts, now = ARGV[1], ARGV[2], tonumber(ARGV[3]), now_ms()
local mine_until = owner .. '|' .. string.format('%d', now + lasts)
local mine, changes, intents = {}, {}, {}

-- In parts, as Lua hands over some thousand values at once and no more.
for from = 4, #ARGV, PART do
  local to = math.min(from + PART - 1, #ARGV)
  for i, lease in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, from, to))) do
    local email = ARGV[from + i - 1]
    local holder, ends = string.match(lease or '', '^(.*)|(%d+)$')
    local is_free = not holder or left_of(ends, now, LEASES_AHEAD * lasts) == 0
    if (holder == owner and (verb == 'release' or not is_free)) or (verb == 'take' and is_free) then
      mine[#mine + 1] = email
      changes[#changes + 1] = email
      if verb ~= 'release' then changes[#changes + 1] = mine_until end
    end
  end
end
local command = verb == 'release' and 'HDEL' or 'HSET'
for from = 1, #changes, PART do
  redis.call(command, KEYS[1], unpack(changes, from, math.min(from + PART - 1, #changes)))
end
if verb ~= 'release' and #mine > 0 and redis.call('PTTL', KEYS[1]) < lasts then redis.call('PEXPIRE', KEYS[1], lasts) end
if verb == 'take' then
  for from = 1, #mine, PART do
    for _, saved in ipairs(redis.call('HMGET', KEYS[2], unpack(mine, from, math.min(from + PART - 1, #mine)))) do
      intents[#intents + 1] = saved or ''
    end
  end
end
return { now, mine, intents }
