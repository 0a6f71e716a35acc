-- Begins a rewrite: deletes all of a partition and leaves the writer's token in its watermark.
-- KEYS: all of a partition but its rows; the first three are watermark, meta and contexts
-- ARGV: token, prefix of the rows' keys, then the fields and values of meta
for _, name in ipairs(redis.call('HKEYS', KEYS[3])) do
  redis.call('DEL', ARGV[2] .. name)
end
for i = 1, #KEYS do redis.call('DEL', KEYS[i]) end
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
redis.call('HSET', KEYS[1], 'rebuild', ARGV[1])
return 1
