-- pg_rewrite, the views' own queries aside
SELECT w.ev_class, w.rulename::text, w.ev_type::text, w.is_instead, w.ev_enabled::text, pg_get_ruledef(w.oid)
FROM pg_rewrite w
JOIN pg_class c ON c.oid = w.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE w.rulename <> '_RETURN' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
