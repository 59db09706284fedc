-- Whether a webhook would be taken in now: what an append needs is allowed, and a write is done.
--
-- KEYS  1 what is written  2 a stream of webhooks
require_rights(KEYS[2])
redis.call('SET', KEYS[1], '1', 'PX', 10000)
