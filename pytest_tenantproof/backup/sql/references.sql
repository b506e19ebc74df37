-- Foreign keys between tables, a partition standing for its root; whether all referencing columns are NOT NULL.
SELECT coalesce(pg_catalog.pg_partition_root(f.conrelid), f.conrelid)::oid::bigint,
       coalesce(pg_catalog.pg_partition_root(f.confrelid), f.confrelid)::oid::bigint,
       f.conname::text,
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY AS k(number, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number
             ORDER BY k.place),
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(f.confkey) WITH ORDINALITY AS k(number, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.number
             ORDER BY k.place),
       (SELECT pg_catalog.bool_and(a.attnotnull) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = f.conrelid AND a.attnum = ANY (f.conkey))
FROM pg_catalog.pg_constraint f
WHERE f.contype = 'f' AND f.conparentid = 0
ORDER BY 6 DESC, 3
