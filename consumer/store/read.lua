-- Reads all of a partition as it stands at one moment.
-- KEYS: watermark, meta, contexts, decisions, decision-ids, trades, totals, parents, markets, followed, series
-- ARGV: prefix of the rows' keys
-- Answer: these hashes, then the rows in the order of contexts; each as field, value, ...
local found = {}
for i = 1, #KEYS do found[i] = redis.call('HGETALL', KEYS[i]) end
for i = 1, #found[3], 2 do
  found[#found + 1] = redis.call('HGETALL', ARGV[1] .. found[3][i])
end
return found
