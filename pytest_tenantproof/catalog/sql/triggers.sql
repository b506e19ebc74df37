-- pg_trigger, user-defined
SELECT t.tgrelid, t.tgname::text, t.tgtype, t.tgenabled::text, t.tgattr::int2[]::int[],
       pg_get_triggerdef(t.oid), t.tgqual IS NOT NULL, coalesce(t.tgoldtable::text, ''), coalesce(t.tgnewtable::text, ''),
       t.tgdeferrable, t.tgfoid, encode(t.tgargs, 'hex')
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND n.nspname !~ '^pg_(toast|temp_|toast_temp_)'
