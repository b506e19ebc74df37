-- pg_db_role_setting for this database and for all
SELECT coalesce(r.rolname::text, ''), s.setdatabase <> 0, unnest(s.setconfig)
FROM pg_db_role_setting s
LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
