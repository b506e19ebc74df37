-- pg_index; what implements a constraint is defined there
SELECT i.indrelid, c.relname::text, CASE WHEN k.oid IS NULL THEN pg_get_indexdef(i.indexrelid) ELSE '' END, i.indkey::int2[]::int[], i.indnkeyatts,
       i.indisunique, i.indisprimary, i.indisexclusion, i.indisvalid AND i.indisready,
       coalesce(pg_get_expr(i.indpred, i.indrelid), ''), coalesce(k.conname::text, '')
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_|toast_temp_)'
