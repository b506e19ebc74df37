-- pg_proc outside the system schemas; system functions only where somebody changed their privileges
SELECT p.oid, format('%I.%I', n.nspname, p.proname), n.nspname::text,
       ARRAY(SELECT format_type(a.t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY a(t, i) ORDER BY a.i),
       coalesce(pg_get_function_result(p.oid), ''), l.lanname::text, r.rolname::text, p.prokind::text,
       p.provolatile::text, p.prosecdef, p.proleakproof, p.proisstrict, coalesce(p.proconfig, '{}'),
       coalesce(CASE WHEN p.prosqlbody IS NOT NULL THEN pg_get_function_sqlbody(p.oid) END,
                CASE WHEN l.lanname IN ('c', 'internal') THEN p.probin || ':' || p.prosrc ELSE p.prosrc END, ''),
       p.procost, coalesce(p.proacl, acldefault('f', p.proowner))::text[], coalesce(x.extname::text, ''),
       coalesce(p.proargnames[1:p.pronargs], '{}'),
       CASE WHEN p.prokind IN ('f', 'p') AND x.extname IS NULL AND n.nspname NOT IN ('pg_catalog', 'information_schema')
            THEN pg_get_functiondef(p.oid) ELSE '' END
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_language l ON l.oid = p.prolang
JOIN pg_roles r ON r.oid = p.proowner
LEFT JOIN LATERAL (
    SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
    WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
      AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' LIMIT 1) x ON true
LEFT JOIN pg_init_privs i ON i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid
WHERE n.nspname !~ '^pg_(toast|temp_|toast_temp_)'
  AND (n.nspname NOT IN ('pg_catalog', 'information_schema')
       OR (p.proacl IS NOT NULL AND p.proacl IS DISTINCT FROM i.initprivs)
       OR p.oid >= 16384)
