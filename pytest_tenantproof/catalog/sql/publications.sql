-- pg_publication with its tables and schemas
SELECT p.pubname::text, r.rolname::text, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot,
       ARRAY(SELECT n.nspname::text FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid
             WHERE s.pnpubid = p.oid),
       coalesce((SELECT json_agg(json_build_array(format('%I.%I', n.nspname, c.relname),
                   ARRAY(SELECT a.attname FROM pg_attribute a
                         WHERE a.attrelid = c.oid AND a.attnum = ANY (t.prattrs::int2[])),
                   coalesce(pg_get_expr(t.prqual, c.oid), '')))
                 FROM pg_publication_rel t JOIN pg_class c ON c.oid = t.prrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE t.prpubid = p.oid), '[]'::json)
FROM pg_publication p JOIN pg_roles r ON r.oid = p.pubowner
