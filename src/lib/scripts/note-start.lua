#!lua flags=allow-oom
-- Notes that an entry which was in a crash before begins to run, as usual or in the isolation slot: if its worker dies now,
-- that is held against it. In the isolation slot nothing starts while it is looked whether workers die without it as well. Or
-- that it has stopped, and is still to be done.
--
-- KEYS: stream, strikes, alive
-- ARGV: group, consumer, id, event id, 'begun', 'alone' or 'stopped'
-- Returns 1, 0 where the claim was lost, or for how long it has to wait, as a negative number (ms)
local now, state = now_ms(), ARGV[5]
local prefix = string.match(KEYS[1], '^(.*)events:%a+$')
-- A claim that went with the whole consumer is given back, as nobody else would find the entry.
local claim = restore_claim(prefix, KEYS[1], ARGV[1], ARGV[2], ARGV[4], ARGV[3])
if claim ~= 'restored' and claim ~= 'own' then return 0 end
local control_ms = state == 'alone' and left_of(redis.call('HGET', KEYS[3], '*control'), now, CONTROL_MS_MAX) or 0
if control_ms > 0 then return -control_ms end
local strikes = parse_strikes(redis.call('HGET', KEYS[2], ARGV[4]))
if strikes and state == 'stopped' then
  set_put_off(KEYS[2], ARGV[4], strikes)
elseif strikes then
  strikes.state, strikes.owner, strikes.since = state, ARGV[2], now
  redis.call('HSET', KEYS[2], ARGV[4], strikes_text(strikes))
end
return 1
