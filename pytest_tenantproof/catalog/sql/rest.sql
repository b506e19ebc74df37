-- The small catalogs, one row an object: kind, name, and what matters of it as JSON
SELECT 'extension', e.extname::text, json_build_object('version', e.extversion, 'schema', n.nspname)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
UNION ALL
SELECT 'event_trigger', t.evtname::text, json_build_object('event', t.evtevent, 'enabled', t.evtenabled,
       'function', t.evtfoid::int8, 'owner', r.rolname, 'tags', coalesce(t.evttags, '{}'))
FROM pg_event_trigger t JOIN pg_roles r ON r.oid = t.evtowner
UNION ALL
SELECT 'server', s.srvname::text, json_build_object('wrapper', w.fdwname, 'owner', r.rolname,
       'acl', coalesce(s.srvacl, acldefault('S', s.srvowner))::text[])
FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw JOIN pg_roles r ON r.oid = s.srvowner
UNION ALL
SELECT 'user_mapping', m.srvname::text, json_build_object('user', CASE WHEN m.umuser = 0 THEN 'PUBLIC' ELSE m.usename END,
       'options', ARRAY(SELECT split_part(o, '=', 1) FROM unnest(m.umoptions) o))
FROM pg_user_mappings m
UNION ALL
SELECT 'large_object', l.oid::text, json_build_object('owner', r.rolname,
       'acl', coalesce(l.lomacl, acldefault('L', l.lomowner))::text[])
FROM pg_largeobject_metadata l JOIN pg_roles r ON r.oid = l.lomowner
UNION ALL
SELECT 'language', l.lanname::text, json_build_object('trusted', l.lanpltrusted,
       'acl', coalesce(l.lanacl, acldefault('l', l.lanowner))::text[])
FROM pg_language l WHERE l.lanispl OR l.lanacl IS NOT NULL
UNION ALL
SELECT 'wrapper', w.fdwname::text, json_build_object('trusted', true,
       'acl', coalesce(w.fdwacl, acldefault('F', w.fdwowner))::text[])
FROM pg_foreign_data_wrapper w
UNION ALL
SELECT 'parameter', p.parname::text, json_build_object('trusted', true, 'acl', p.paracl::text[])
FROM pg_parameter_acl p
UNION ALL
SELECT 'operator', format('%I.%s', n.nspname, o.oprname), json_build_object('left', format_type(o.oprleft, NULL),
       'right', format_type(o.oprright, NULL), 'function', o.oprcode::int8, 'owner', r.rolname)
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace JOIN pg_roles r ON r.oid = o.oprowner
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_operator'::regclass AND d.objid = o.oid AND d.deptype = 'e')
UNION ALL
SELECT 'cast', format_type(c.castsource, NULL), json_build_object('target', format_type(c.casttarget, NULL),
       'context', CASE c.castcontext WHEN 'i' THEN 'implicit' WHEN 'a' THEN 'assignment' ELSE 'explicit' END,
       'function', c.castfunc::int8)
FROM pg_cast c
WHERE c.oid >= 16384
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT 'subscription', s.subname::text, json_build_object('owner', r.rolname, 'enabled', s.subenabled,
       'run_as_owner', to_jsonb(s) -> 'subrunasowner')
FROM (SELECT oid, subname, subowner, subenabled, subdbid{run_as_owner} FROM pg_subscription) s JOIN pg_roles r ON r.oid = s.subowner
WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
SELECT 'slot', s.slot_name::text, json_build_object('plugin', s.plugin)
FROM pg_replication_slots s WHERE s.database = current_database() AND s.slot_type = 'logical'
