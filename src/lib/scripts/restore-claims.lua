#!lua flags=allow-oom
-- Gives a worker back the claims that went with their group, or with a consumer that was removed by hand.
--
-- KEYS[1] attempts
-- ARGV: group, consumer, key prefix, then event ids
-- Returns the event ids that are lost, or done
local lost = {}
for i = 4, #ARGV do
  local stream, id = split_event_id(ARGV[i])
  local claim = restore_claim(ARGV[3], ARGV[3] .. stream, ARGV[1], ARGV[2], ARGV[i], id)
  if claim ~= 'restored' and claim ~= 'own' then lost[#lost + 1] = ARGV[i] end
end
return lost
