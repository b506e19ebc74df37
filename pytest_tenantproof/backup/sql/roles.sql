-- pg_shdepend names every role that an object of this database depends on: owners, grantees, policies' roles.
WITH RECURSIVE needed(oid) AS (
    SELECT d.refobjid
    FROM pg_catalog.pg_shdepend d
    WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
      AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
      AND (d.dbid <> 0 OR (d.classid = 'pg_catalog.pg_database'::pg_catalog.regclass
           AND d.objid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())))
    UNION
    SELECT c.relowner FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
    UNION
    SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN needed n ON m.member = n.oid
)
SELECT r.rolname::text, r.rolcanlogin, r.rolsuper, r.rolbypassrls,
       ARRAY(SELECT g.rolname::text FROM pg_catalog.pg_auth_members m
             JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid ORDER BY 1)
FROM needed JOIN pg_catalog.pg_roles r ON r.oid = needed.oid
WHERE r.rolname !~ '^pg_'
ORDER BY 1
