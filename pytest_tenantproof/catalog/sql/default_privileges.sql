-- pg_default_acl
SELECT r.rolname::text, coalesce(n.nspname::text, ''), d.defaclobjtype::text, d.defaclacl::text[]
FROM pg_default_acl d
JOIN pg_roles r ON r.oid = d.defaclrole
LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
