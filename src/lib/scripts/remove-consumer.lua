#!lua flags=allow-oom
-- Takes a consumer that stops out of its group. What it still holds was handed out to it unheard, or could not be handed back
-- before: it is handed back now, as with its consumer it would be gone without trace.
--
-- KEYS: alive, then the streams
-- ARGV: group, consumer
local group, consumer = ARGV[1], ARGV[2]
for i = 2, #KEYS do
  if cursor_of(KEYS[i], group) then
    repeat
      local held = owned(KEYS[i], group, consumer, '-', '+', PART)
      for id, deliveries in pairs(held) do hand_back(KEYS[i], group, consumer, id, deliveries) end
    until not next(held)
    remove_consumer(KEYS[i], group, consumer)
  end
end
redis.call('HDEL', KEYS[1], consumer)
