-- What a session may turn into: (superuser or exempt itself, roles it can become beside the wanted one, the wanted
-- role exists and is reachable, it is a superuser or can log in, it bypasses row security).
SELECT s.rolsuper OR s.rolbypassrls,
       ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_roles r
             WHERE pg_catalog.pg_has_role(s.oid, r.oid, 'MEMBER') AND r.rolname <> s.rolname AND r.rolname <> $1
             ORDER BY r.rolname),
       w.oid IS NOT NULL AND pg_catalog.pg_has_role(s.oid, w.oid, 'MEMBER'),
       w.rolsuper OR w.rolcanlogin,
       w.rolbypassrls
FROM pg_catalog.pg_roles s LEFT JOIN pg_catalog.pg_roles w ON w.rolname = $1
WHERE s.rolname = session_user
