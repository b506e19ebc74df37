-- pg_constraint; {enforced} and {period} are columns of PG 18. Of keys the index says whether more than their
-- columns and flags is in the definition (NULLS NOT DISTINCT, INCLUDE).
SELECT k.conrelid, k.conname::text, k.contype::text, k.oid, k.conkey::int[], k.confkey::int[], k.confdelsetcols::int[],
       k.convalidated, {enforced}, k.condeferrable, k.condeferred, k.confrelid, k.confmatchtype::text,
       k.confdeltype::text, k.confupdtype::text, k.coninhcount > 0 AND NOT k.conislocal, {period},
       coalesce(t.fires, true), k.connoinherit, k.conbin::text,
       k.contype = 'x' OR coalesce(i.indnullsnotdistinct OR i.indnatts <> cardinality(k.conkey), false)
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON i.indexrelid = k.conindid AND k.contype IN ('p', 'u')
LEFT JOIN (
    SELECT tgconstraint, bool_and(tgenabled IN ('O', 'A')) AS fires
    FROM pg_trigger WHERE tgconstraint <> 0 AND tgisinternal GROUP BY 1) t ON t.tgconstraint = k.oid
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_|toast_temp_)'
  -- of PG 18's not-null constraints only those matter that were never validated
  AND (k.contype IN ('p', 'u', 'f', 'c', 'x') OR (k.contype = 'n' AND NOT k.convalidated))
