-- One row an event, in the order of seals: where it stands, when it says it was, and its RFC 6962 leaf hash over a
-- canonical text (the session's time zone must be UTC). A changed list of columns is a new format.
SELECT e.xid::text::bigint, e.id, e.at,
       sha256('\x00'::bytea || convert_to(jsonb_build_array(
           e.id, e.at, e.xid::text, e.tenant_id, e.actor, e.actor_source, e.database_role, e.session_role,
           e.table_schema, e.table_name, e.operation, e.row_count, e.key_columns, e.keys, e.changed,
           e.application_name, e.request_id)::text, 'UTF8'))
FROM public.audit_events e
WHERE (e.xid, e.id) >= (%(from_xid)s::text::xid8, %(from_id)s)
  AND (e.xid, e.id) < (%(to_xid)s::text::xid8, %(to_id)s)
ORDER BY e.xid, e.id
LIMIT %(most)s
