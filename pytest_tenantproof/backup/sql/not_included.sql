SELECT 'large objects: ' || count(*) FROM pg_catalog.pg_largeobject_metadata HAVING count(*) > 0
UNION ALL
SELECT format('%I.%I: a materialized view, refresh it after a restore', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm'
UNION ALL
SELECT format('%I.%I: a table of extension %I that holds settings', n.nspname, c.relname, e.extname)
FROM pg_catalog.pg_extension e CROSS JOIN pg_catalog.unnest(e.extconfig) AS x(oid)
JOIN pg_catalog.pg_class c ON c.oid = x.oid AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY 1
