-- pg_auth_members; {inherit} and {set} are columns of PG 16
SELECT g.rolname::text, m.rolname::text, a.admin_option, {inherit}, {set}
FROM pg_auth_members a
JOIN pg_roles g ON g.oid = a.roleid
JOIN pg_roles m ON m.oid = a.member
