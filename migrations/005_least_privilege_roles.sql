-- 005 least-privilege roles: a back end that reaches one tenant a transaction, and only after saying which.
--
-- A back end logs in as app_backend, which may do nothing but become app_scoped. `pytest_tenantproof.client` begins
-- each transaction with one message (docs/CLIENT.md):
--     BEGIN; SET LOCAL ROLE app_scoped; SELECT tenantproof.bind_tenant('<uuid>', '<actor>', '<request>')
--
-- Why no SQL inside the transaction can move to another tenant: settings can be overwritten by any SQL, so nothing
-- trusts them alone. bind_tenant() seals the claims, together with the backend process and the start of the
-- transaction, under a key that only the functions' owner can read, and the policies' accessor checks the seal.
-- bind_tenant() itself works only within the very message that begins the transaction: later ones come too late.
-- Run in one transaction; idempotent.

SET LOCAL client_min_messages = warning;
SET LOCAL lock_timeout = '5s';
SET LOCAL search_path = '';

-- 1. Roles -----------------------------------------------------------------------------------------------------
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN SELECT * FROM (VALUES ('app_scoped', 'NOLOGIN'), ('app_backend', 'LOGIN')) AS v (name, login) LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOINHERIT %s', wanted.name, wanted.login);
        ELSIF EXISTS (SELECT FROM pg_catalog.pg_roles
                      WHERE rolname = wanted.name AND (rolsuper OR rolbypassrls OR rolreplication OR rolcreaterole)) THEN
            RAISE EXCEPTION 'the role % exists and can do more than it may', wanted.name
                USING ERRCODE = 'TP013', HINT = 'Make it NOSUPERUSER NOBYPASSRLS NOREPLICATION NOCREATEROLE, or rename it.';
        END IF;
    END LOOP;
    GRANT app_scoped TO app_backend;
END
$$;

CREATE SCHEMA IF NOT EXISTS tenantproof;
REVOKE ALL ON SCHEMA tenantproof FROM PUBLIC;
GRANT USAGE ON SCHEMA public, app, tenantproof TO app_scoped;
GRANT USAGE, CREATE ON SCHEMA app, tenantproof TO app_owner; -- on app since 001

-- 2. The sealing key: made here, never shown. Delete the row and run this file again to change it ----------------
CREATE TABLE IF NOT EXISTS tenantproof.binding_key (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key bytea NOT NULL CHECK (octet_length(key) = 32)
);
INSERT INTO tenantproof.binding_key (key)
VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())))
ON CONFLICT DO NOTHING;
ALTER TABLE tenantproof.binding_key OWNER TO app_owner;
REVOKE ALL ON tenantproof.binding_key FROM PUBLIC, anon, authenticated, service_role;

-- 3. Binding. The seal is computed in place in three functions, because each call of a fourth one would cost as much
-- as the rest; a transaction has to pay for it with every statement.
CREATE OR REPLACE FUNCTION tenantproof.bind_tenant(tenant uuid, actor text, request text DEFAULT '')
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    claims text := json_build_object('role', current_setting('role'), 'actor', actor, 'request_id', request,
                                     'app_metadata', json_build_object('tenant_id', tenant));
    sealing bytea;
BEGIN
    IF statement_timestamp() <> transaction_timestamp() OR current_setting('app.binding', true) <> '' THEN
        RAISE EXCEPTION 'a tenant is bound by the message that begins the transaction, and once'
            USING ERRCODE = 'TP012', HINT = 'Use pool.tenant(...); see docs/CLIENT.md.';
    END IF;
    IF tenant IS NULL OR coalesce(actor, '') = '' THEN
        RAISE EXCEPTION 'a binding needs a tenant and an actor' USING ERRCODE = 'TP012';
    END IF;
    SELECT k.key INTO STRICT sealing FROM tenantproof.binding_key k;
    RETURN set_config('request.jwt.claims', claims, true) || set_config('app.binding', sha256(
        sealing || int4send(pg_backend_pid()) || timestamptz_send(transaction_timestamp())
        || convert_to(claims, 'UTF8'))::text, true);
END
$$;

-- The accessor of the back end's policies. Unlike app.current_tenant_id() it never gives NULL: it raises.
CREATE OR REPLACE FUNCTION app.require_tenant_id() RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    claims text := nullif(current_setting('request.jwt.claims', true), '');
    sealing bytea;
BEGIN
    IF claims IS NULL THEN
        RAISE EXCEPTION 'no tenant is bound in this transaction'
            USING ERRCODE = 'TP010', HINT = 'Use pool.tenant(...); see docs/CLIENT.md.';
    END IF;
    SELECT k.key INTO STRICT sealing FROM tenantproof.binding_key k;
    IF (current_setting('app.binding', true) = sha256(
        sealing || int4send(pg_backend_pid()) || timestamptz_send(transaction_timestamp())
        || convert_to(claims, 'UTF8'))::text) IS NOT TRUE THEN
        RAISE EXCEPTION 'the tenant or the actor of this transaction was not bound by bind_tenant()'
            USING ERRCODE = 'TP011', HINT = 'Only the message that begins a transaction may bind them.';
    END IF;
    RETURN (claims::jsonb -> 'app_metadata' ->> 'tenant_id')::uuid;
END
$$;

-- What is bound (actor, request_id, app_metadata.tenant_id), for audit triggers; NULL where nothing is, or where the
-- claims were set by anybody but bind_tenant().
CREATE OR REPLACE FUNCTION tenantproof.bound_claims() RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    claims text := current_setting('request.jwt.claims', true);
    sealing bytea;
BEGIN
    SELECT k.key INTO STRICT sealing FROM tenantproof.binding_key k;
    IF current_setting('app.binding', true) = sha256(
        sealing || int4send(pg_backend_pid()) || timestamptz_send(transaction_timestamp())
        || convert_to(claims, 'UTF8'))::text THEN
        RETURN claims::jsonb;
    END IF;
    RETURN NULL;
END
$$;

-- Travels with COMMIT and with ROLLBACK TO SAVEPOINT: raises unless role, claims and seal are what bind_tenant() gave.
-- Comparing is enough: while they were anything else, the accessor let nothing through.
CREATE OR REPLACE FUNCTION tenantproof.verify_binding(scoped_role text, binding text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = '' AS
$$
BEGIN
    IF current_setting('role') IS DISTINCT FROM scoped_role
       OR current_setting('request.jwt.claims', true) || current_setting('app.binding', true) IS DISTINCT FROM binding THEN
        RAISE EXCEPTION 'the tenant or the role of this transaction was changed after it was bound'
            USING ERRCODE = 'TP011', HINT = 'Only the message that begins a transaction may bind them.';
    END IF;
END
$$;

-- 4. Cross-tenant work leaves a trace before it begins ---------------------------------------------------------------
CREATE TABLE IF NOT EXISTS tenantproof.cross_tenant_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL CHECK (actor <> ''),
    reason text NOT NULL CHECK (length(btrim(reason)) >= 8),
    session_role text NOT NULL DEFAULT session_user,
    application_name text NOT NULL DEFAULT current_setting('application_name'),
    client_address inet DEFAULT inet_client_addr()
);

CREATE OR REPLACE FUNCTION tenantproof.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS
$$
BEGIN
    RAISE EXCEPTION '% on %.% is forbidden: it is append-only', tg_op, tg_table_schema, tg_table_name
        USING ERRCODE = 'TP014', HINT = 'Records of cross-tenant access are kept as they are.';
END
$$;
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tenantproof.cross_tenant_log
    FOR EACH STATEMENT EXECUTE FUNCTION tenantproof.refuse_change();
ALTER TABLE tenantproof.cross_tenant_log ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE tenantproof.cross_tenant_log OWNER TO app_owner;
REVOKE ALL ON tenantproof.cross_tenant_log FROM PUBLIC, anon, authenticated, service_role;

CREATE OR REPLACE FUNCTION tenantproof.log_cross_tenant(reason text, actor text) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = '' AS
$$
    INSERT INTO tenantproof.cross_tenant_log (actor, reason) VALUES (actor, reason) RETURNING id
$$;

-- 5. Owner and rights ------------------------------------------------------------------------------------------------
DO $$
DECLARE
    item pg_catalog.regprocedure;
BEGIN
    FOR item IN
        SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE (n.nspname, p.proname) IN (
            ('app', 'require_tenant_id'), ('tenantproof', 'bind_tenant'),
            ('tenantproof', 'verify_binding'), ('tenantproof', 'bound_claims'), ('tenantproof', 'refuse_change'),
            ('tenantproof', 'log_cross_tenant'))
    LOOP
        EXECUTE pg_catalog.format('ALTER FUNCTION %s OWNER TO app_owner', item);
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, anon, authenticated, service_role', item);
    END LOOP;
END
$$;
REVOKE CREATE ON SCHEMA tenantproof FROM app_owner;
GRANT EXECUTE ON FUNCTION tenantproof.bind_tenant(uuid, text, text), tenantproof.verify_binding(text, text),
    tenantproof.bound_claims(), app.require_tenant_id(), app.current_tenant_id() TO app_scoped;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'tenantproof_audit') THEN
        GRANT EXECUTE ON FUNCTION tenantproof.bound_claims() TO tenantproof_audit;
    END IF;
END
$$;
GRANT USAGE ON SCHEMA tenantproof TO service_role;
GRANT EXECUTE ON FUNCTION tenantproof.log_cross_tenant(text, text) TO service_role;

-- 6. Policies ----------------------------------------------------------------------------------------------------------
DO $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT * FROM (VALUES
            ('tenants', 'id', 'SELECT'),
            ('developments', 'tenant_id', 'SELECT, INSERT, UPDATE, DELETE'),
            ('units', 'tenant_id', 'SELECT, INSERT, UPDATE, DELETE'),
            ('messages', 'tenant_id', 'SELECT, INSERT, UPDATE, DELETE'),
            ('tenant_members', 'tenant_id', 'SELECT, INSERT, DELETE'),
            ('onboarding_transactions', 'tenant_id', 'SELECT, INSERT, UPDATE')
        ) AS v (tab, col, rights)
    LOOP
        EXECUTE format('DROP POLICY IF EXISTS scoped_tenant ON public.%I', item.tab);
        EXECUTE format('CREATE POLICY scoped_tenant ON public.%I TO app_scoped '
                       'USING (%I = (SELECT app.require_tenant_id())) '
                       'WITH CHECK (%2$I = (SELECT app.require_tenant_id()))', item.tab, item.col);
        EXECUTE format('GRANT %s ON public.%I TO app_scoped', item.rights, item.tab);
    END LOOP;
END
$$;
GRANT SELECT ON public.message_overview TO app_scoped;
