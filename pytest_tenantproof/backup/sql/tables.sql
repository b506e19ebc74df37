-- Every table with rows of its own: partitioned roots stand for their partitions; extensions' tables are theirs.
SELECT c.oid::bigint,
       format('%I.%I', n.nspname, c.relname),
       n.nspname || '.' || c.relname,
       c.relkind::text,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
             ORDER BY a.attnum),
       (SELECT pg_catalog.jsonb_object_agg(
                 a.attname, pg_catalog.format_type(coalesce(nullif(y.typbasetype, 0), y.oid), -1))
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       -- Whether equal values have one text (exact), may have several (loose), or '=' itself has to be found (other).
       (SELECT pg_catalog.jsonb_object_agg(a.attname, CASE
                 WHEN y.typtype NOT IN ('b', 'e', 'd') OR b.typtype NOT IN ('b', 'e') THEN 'other'
                 WHEN b.typtype = 'e' THEN 'exact'
                 WHEN b.typname IN ('text', 'varchar', 'bpchar') AND b.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
                   THEN CASE WHEN o.collisdeterministic THEN 'exact' ELSE 'loose' END
                 WHEN b.oid = 'numeric'::pg_catalog.regtype
                   THEN CASE WHEN greatest(a.atttypmod, y.typtypmod) < 0 THEN 'loose' ELSE 'exact' END
                 WHEN b.oid IN ('real'::pg_catalog.regtype, 'double precision'::pg_catalog.regtype,
                                'interval'::pg_catalog.regtype) THEN 'loose'
                 WHEN b.oid = ANY ('{smallint,integer,bigint,oid,uuid,name,"\"char\"",boolean,date,timestamp,timestamptz,
                                    time,timetz,inet,cidr,macaddr,macaddr8,bytea,bit,varbit,money}'::pg_catalog.regtype[])
                   THEN 'exact'
                 ELSE 'other' END)
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
        JOIN pg_catalog.pg_type b ON b.oid = coalesce(nullif(y.typbasetype, 0), y.oid)
        LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_constraint p
             CROSS JOIN pg_catalog.unnest(p.conkey) WITH ORDINALITY AS k(number, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
             WHERE p.conrelid = c.oid AND p.contype = 'p' ORDER BY k.place),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
             WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL ORDER BY 1),
       -- 0 is ASC NULLS LAST, 3 its reverse: either serves ORDER BY.
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
             JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[0]
             JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod
             WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL
               AND m.amname = 'btree' AND o.opcdefault AND o.opcnamespace = 'pg_catalog'::pg_catalog.regnamespace
               AND i.indcollation[0] = a.attcollation AND i.indoption[0] IN (0, 3) ORDER BY 1),
       coalesce(held.size, pg_catalog.pg_table_size(c.oid)),
       coalesce(held.heap, pg_catalog.pg_relation_size(c.oid)),
       greatest(held.partitions, 1),
       coalesce(held.elsewhere, false)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT sum(pg_catalog.pg_table_size(t.relid))::bigint AS size,
                           sum(pg_catalog.pg_relation_size(t.relid))::bigint AS heap,
                           count(*) FILTER (WHERE t.isleaf) AS partitions,
                           bool_or(p.relkind = 'f') AS elsewhere
                    FROM pg_catalog.pg_partition_tree(c.oid) t
                    JOIN pg_catalog.pg_class p ON p.oid = t.relid) AS held
WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  -- The parent no longer shows the rows of a partition whose DETACH CONCURRENTLY was begun and not finished.
  AND (NOT c.relispartition
       OR EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND i.inhdetachpending))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                    AND d.deptype = 'e')
ORDER BY 2
