-- pg_policy
SELECT p.polrelid, p.polname::text, p.polcmd::text, p.polpermissive, p.polroles::oid[],
       coalesce(pg_get_expr(p.polqual, p.polrelid), ''), coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '')
FROM pg_policy p
