-- pg_class: tables, views, foreign tables and sequences outside the system schemas; system relations only
-- where somebody changed their privileges.
SELECT c.oid, format('%I.%I', n.nspname, c.relname), n.nspname::text, c.relkind::text, c.relpersistence::text,
       r.rolname::text, c.relrowsecurity, c.relforcerowsecurity, c.relispartition,
       coalesce(c.reloptions, '{}'),
       coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))::text[],
       coalesce(pg_get_expr(c.relpartbound, c.oid), ''),
       CASE WHEN c.relkind = 'p' THEN coalesce(pg_get_partkeydef(c.oid), '') ELSE '' END,
       CASE WHEN c.relkind IN ('v', 'm') THEN coalesce(pg_get_viewdef(c.oid), '') ELSE '' END,
       coalesce(s.srvname::text, ''), coalesce(x.extname::text, ''),
       CASE WHEN d.description LIKE '@%' THEN d.description ELSE '' END,
       coalesce(q.seqcache, 1), coalesce(q.seqcycle, false), coalesce(o.owner, '')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles r ON r.oid = c.relowner
LEFT JOIN pg_foreign_table f ON f.ftrelid = c.oid
LEFT JOIN pg_foreign_server s ON s.oid = f.ftserver
LEFT JOIN pg_sequence q ON q.seqrelid = c.oid
LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = 0
LEFT JOIN LATERAL (
    SELECT e.extname FROM pg_depend p JOIN pg_extension e ON e.oid = p.refobjid
    WHERE p.classid = 'pg_class'::regclass AND p.objid = c.oid
      AND p.refclassid = 'pg_extension'::regclass AND p.deptype = 'e' LIMIT 1) x ON true
LEFT JOIN LATERAL (
    SELECT format('%I.%I', tn.nspname, t.relname) AS owner FROM pg_depend p
    JOIN pg_class t ON t.oid = p.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
    WHERE c.relkind = 'S' AND p.classid = 'pg_class'::regclass AND p.objid = c.oid
      AND p.refclassid = 'pg_class'::regclass AND p.deptype IN ('a', 'i') LIMIT 1) o ON true
LEFT JOIN pg_init_privs i ON i.classoid = 'pg_class'::regclass AND i.objoid = c.oid AND i.objsubid = 0
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  AND n.nspname !~ '^pg_(toast|temp_|toast_temp_)'
  AND (n.nspname NOT IN ('pg_catalog', 'information_schema')
       OR (n.nspname = 'pg_catalog' AND c.relacl IS NOT NULL AND c.relacl IS DISTINCT FROM i.initprivs)
       -- initdb records no initial privileges for these: their own are the owner's and PUBLIC's SELECT
       OR (n.nspname = 'information_schema' AND cardinality(c.relacl) > 2))
