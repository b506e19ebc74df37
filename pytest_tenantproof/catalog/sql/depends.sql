-- pg_depend: what queries of views, materialised views and rules read and call
SELECT DISTINCT w.ev_class, d.refclassid = 'pg_proc'::regclass, d.refobjid
FROM pg_rewrite w
JOIN pg_class c ON c.oid = w.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
  AND NOT (d.refclassid = 'pg_class'::regclass AND d.refobjid = w.ev_class)
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
