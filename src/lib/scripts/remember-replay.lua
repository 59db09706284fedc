#!lua flags=allow-oom
-- Remembers that a replay is at work on its range. What it has handed over so far, also before it was interrupted, is kept.
--
-- KEYS[1] unfinished replays
-- ARGV: id, record (JSON) without how many it has handed over, and when it was last at work
-- Returns how many that are
local known = redis.call('HGET', KEYS[1], ARGV[1])
local record = cjson.decode(ARGV[2])
record.handedOver = known and cjson.decode(known).handedOver or 0
record.movedAt = now_ms()
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(record))
return record.handedOver
