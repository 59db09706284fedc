#!lua flags=allow-oom
-- Remembers that a replay is at work on its range. What it has handed over so far, also before it was interrupted, is kept,
-- and the latest outcome of all when it began: what ended after that is done. An id and no time, as a clock may go back.
--
-- KEYS: unfinished replays, stream of outcomes
-- ARGV: id, record (JSON) without how many it has handed over, after which outcome it began, and when it was last at work
-- Returns how many that are
local known = redis.call('HGET', KEYS[1], ARGV[1])
local former = known and cjson.decode(known) or { handedOver = 0, beganAfter = last_id_of(KEYS[2]) }
local record = cjson.decode(ARGV[2])
record.handedOver, record.beganAfter = former.handedOver, former.beganAfter
record.movedAt = now_ms()
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(record))
return record.handedOver
