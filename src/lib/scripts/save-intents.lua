#!lua flags=allow-oom
-- Notes what is about to be written to leads. It may run when Redis is out of memory: writing is what drains the pipeline.
--
-- KEYS[1] intents
-- ARGV: email, its intents, email, …
return redis.call('HSET', KEYS[1], unpack(ARGV))
