-- pg_roles
SELECT r.oid, r.rolname::text, r.rolsuper, r.rolbypassrls, r.rolreplication, r.rolcreaterole, r.rolcreatedb,
       r.rolcanlogin, r.rolinherit
FROM pg_roles r
