#!lua flags=allow-oom
-- Leases on leads: who may write them to the CRM now. One hash for all, so that a batch costs as much as one lead.
--
-- KEYS[1] leases
-- ARGV: verb (take | keep | release), owner, for how long (ms), then the emails
-- Returns the emails that are the owner's after the call (for release: those it gave up)
local verb, owner, now = ARGV[1], ARGV[2], now_ms()
local until_ms = now + tonumber(ARGV[3])
local emails = {}
for i = 4, #ARGV do emails[#emails + 1] = ARGV[i] end
local leases = redis.call('HMGET', KEYS[1], unpack(emails))
local mine, changes = {}, {}
for i, email in ipairs(emails) do
  local holder, ends = string.match(leases[i] or '', '^(.*)|(%d+)$')
  local is_free = not holder or tonumber(ends) <= now
  if holder == owner or (verb == 'take' and is_free) then
    mine[#mine + 1] = email
    changes[#changes + 1] = email
    if verb ~= 'release' then changes[#changes + 1] = owner .. '|' .. string.format('%d', until_ms) end
  end
end
if #changes > 0 then redis.call(verb == 'release' and 'HDEL' or 'HSET', KEYS[1], unpack(changes)) end
return mine
