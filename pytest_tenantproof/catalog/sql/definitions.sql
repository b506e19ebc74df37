-- pg_get_constraintdef() of some constraints
SELECT o.oid, pg_get_constraintdef(o.oid) FROM unnest(%s::oid[]) AS o(oid)
