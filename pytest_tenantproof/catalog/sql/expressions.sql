-- The expressions of some policies
SELECT p.oid, CASE WHEN p.polqual IS NULL THEN '' ELSE pg_get_expr(p.polqual, p.polrelid) END,
       CASE WHEN p.polwithcheck IS NULL THEN '' ELSE pg_get_expr(p.polwithcheck, p.polrelid) END
FROM pg_policy p WHERE p.oid = ANY (%s)
