-- pg_database, and the server settings that isolation depends on as a fresh session would have them
SELECT r.rolname::text, coalesce(d.datacl, acldefault('d', d.datdba))::text[],
       ARRAY(SELECT ARRAY[s.name, s.reset_val] FROM pg_settings s
             WHERE s.name IN ('session_replication_role', 'lo_compat_privileges', 'wal_level', 'ssl',
                              'password_encryption', 'allow_system_table_mods', 'event_triggers',
                              'restrict_nonsystem_relation_kind', 'shared_preload_libraries',
                              'session_preload_libraries', 'local_preload_libraries')
             ORDER BY s.name)
FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
WHERE d.datname = current_database()
