-- pg_policy; expressions as the trees that are stored
SELECT p.polrelid, p.polname::text, p.polcmd::text, p.polpermissive, p.polroles::oid[], p.oid,
       p.polqual::text, p.polwithcheck::text
FROM pg_policy p
