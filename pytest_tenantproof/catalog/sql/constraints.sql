-- pg_constraint; {enforced} and {period} are columns of PG 18
SELECT k.conrelid, k.conname::text, k.contype::text, pg_get_constraintdef(k.oid), k.conkey::int[],
       k.convalidated, {enforced}, k.condeferrable, k.condeferred,
       k.confrelid, k.confkey::int[], k.confmatchtype::text, k.confdeltype::text, k.confupdtype::text,
       k.confdelsetcols::int[], k.coninhcount > 0 AND NOT k.conislocal, {period},
       coalesce(t.fires, true)
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN (
    SELECT tgconstraint, bool_and(tgenabled IN ('O', 'A')) AS fires
    FROM pg_trigger WHERE tgconstraint <> 0 AND tgisinternal GROUP BY 1) t ON t.tgconstraint = k.oid
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_|toast_temp_)'
  -- of PG 18's not-null constraints only those matter that were never validated
  AND (k.contype IN ('p', 'u', 'f', 'c', 'x') OR (k.contype = 'n' AND NOT k.convalidated))
