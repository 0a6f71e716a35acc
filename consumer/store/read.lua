-- Reads all of a partition as it stands at one moment; the rows are read from `contexts`, which holds them, too.
-- KEYS: watermark, meta, contexts, decisions, decision-ids, trades, totals, parents, markets, followed, series
-- Answer: these hashes; each as field, value, ...
local found = {}
for i = 1, #KEYS do found[i] = redis.call('HGETALL', KEYS[i]) end
return found
