-- pg_namespace
SELECT n.oid, n.nspname::text, r.rolname::text, coalesce(n.nspacl, acldefault('n', n.nspowner))::text[], coalesce(x.extname::text, '')
FROM pg_namespace n
JOIN pg_roles r ON r.oid = n.nspowner
LEFT JOIN LATERAL (
    SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
    WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid
      AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' LIMIT 1) x ON true
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_|toast_temp_)'
