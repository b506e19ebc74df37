-- 006 environment marker: a database says itself whether it is production, and what opens it to demo data.
--
-- Without a row a database counts as production. The row is written by `tenantproof environment --target T --set ...`.
-- What was once marked as production stays production, also in a restored copy. Run in one transaction; idempotent.

SET LOCAL client_min_messages = warning;
SET LOCAL lock_timeout = '5s';
SET LOCAL search_path = '';

CREATE SCHEMA IF NOT EXISTS tenantproof;
REVOKE ALL ON SCHEMA tenantproof FROM PUBLIC;

CREATE TABLE IF NOT EXISTS tenantproof.environment (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    environment text NOT NULL CHECK (environment IN ('production', 'staging', 'development')),
    demo_seed_hash text CHECK (demo_seed_hash ~ '^scrypt\$\d+\$\d+\$\d+\$[0-9a-f]{32}\$[0-9a-f]{64}$'),
    marked_by text NOT NULL DEFAULT session_user,
    marked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (environment <> 'production' OR demo_seed_hash IS NULL)
);
REVOKE ALL ON tenantproof.environment FROM PUBLIC;

CREATE OR REPLACE FUNCTION tenantproof.keep_production() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS
$$
BEGIN
    IF EXISTS (SELECT FROM tenantproof.environment e WHERE e.environment = 'production') THEN
        RAISE EXCEPTION 'this database is marked as production and stays so'
            USING ERRCODE = 'TP020', HINT = 'Make a database of its own for demo data.';
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION tenantproof.keep_production() FROM PUBLIC;

CREATE OR REPLACE TRIGGER keep_production BEFORE UPDATE OR DELETE OR TRUNCATE ON tenantproof.environment
    FOR EACH STATEMENT EXECUTE FUNCTION tenantproof.keep_production();
ALTER TABLE tenantproof.environment ENABLE ALWAYS TRIGGER keep_production;

GRANT USAGE, CREATE ON SCHEMA tenantproof TO app_owner;
ALTER TABLE tenantproof.environment OWNER TO app_owner;
ALTER FUNCTION tenantproof.keep_production() OWNER TO app_owner;
REVOKE CREATE ON SCHEMA tenantproof FROM app_owner;
