-- 001 multi-tenant hardening: the database itself keeps tenants apart, whatever the application does.
--
-- All or nothing: run it in one transaction (`tenantproof migrate`, `psql -1 -f`, or the Supabase CLI).
-- Idempotent. Pre-flight counts the rows it could not keep and aborts without a change if there are any.
-- Locks and how long they are held: docs/MIGRATIONS.md.

SET LOCAL client_min_messages = warning;
SET LOCAL lock_timeout = '5s';
SET LOCAL search_path = '';
-- Counting under row security would find nothing: it must raise instead.
SET LOCAL row_security = off;

-- 1. Pre-flight: nothing is locked or changed yet -------------------------------------------------------------
DO $$
DECLARE
    problem record;
    found text := '';
BEGIN
    FOR problem IN
        SELECT * FROM (
            SELECT 'developments: tenant_id is NULL' AS what, count(*) AS n FROM public.developments WHERE tenant_id IS NULL
            UNION ALL SELECT 'units: tenant_id or development_id is NULL', count(*) FROM public.units
                WHERE tenant_id IS NULL OR development_id IS NULL
            UNION ALL SELECT 'messages: tenant_id, development_id or unit_id is NULL', count(*) FROM public.messages
                WHERE tenant_id IS NULL OR development_id IS NULL OR unit_id IS NULL
            UNION ALL SELECT 'tenant_members: tenant_id or user_id is NULL', count(*) FROM public.tenant_members
                WHERE tenant_id IS NULL OR user_id IS NULL
            UNION ALL SELECT 'onboarding_transactions: tenant_id is NULL', count(*) FROM public.onboarding_transactions
                WHERE tenant_id IS NULL
            UNION ALL SELECT 'developments: orphans without a tenant', count(*) FROM public.developments d
                WHERE d.tenant_id IS NOT NULL AND NOT EXISTS (SELECT FROM public.tenants t WHERE t.id = d.tenant_id)
            UNION ALL SELECT 'units: orphans without a development', count(*) FROM public.units u
                WHERE u.development_id IS NOT NULL
                  AND NOT EXISTS (SELECT FROM public.developments d WHERE d.id = u.development_id)
            UNION ALL SELECT 'messages: orphans without a unit', count(*) FROM public.messages m
                WHERE m.unit_id IS NOT NULL AND NOT EXISTS (SELECT FROM public.units u WHERE u.id = m.unit_id)
            UNION ALL SELECT 'tenant_members: orphans without a tenant', count(*) FROM public.tenant_members m
                WHERE m.tenant_id IS NOT NULL AND NOT EXISTS (SELECT FROM public.tenants t WHERE t.id = m.tenant_id)
            UNION ALL SELECT 'tenant_members: orphans without a user', count(*) FROM public.tenant_members m
                WHERE m.user_id IS NOT NULL AND NOT EXISTS (SELECT FROM auth.users u WHERE u.id = m.user_id)
            UNION ALL SELECT 'onboarding_transactions: orphans without a tenant', count(*)
                FROM public.onboarding_transactions o
                WHERE o.tenant_id IS NOT NULL AND NOT EXISTS (SELECT FROM public.tenants t WHERE t.id = o.tenant_id)
            UNION ALL SELECT 'units: misaligned with their development', count(*)
                FROM public.units u JOIN public.developments d ON d.id = u.development_id
                WHERE d.tenant_id <> u.tenant_id
            UNION ALL SELECT 'messages: misaligned with their unit', count(*)
                FROM public.messages m JOIN public.units u ON u.id = m.unit_id
                WHERE u.tenant_id <> m.tenant_id OR u.development_id <> m.development_id
            UNION ALL SELECT 'tenants: slugs missing or used twice', count(*) - count(DISTINCT slug) FROM public.tenants
            UNION ALL SELECT 'tenant_members: memberships held twice', count(*) - count(DISTINCT (tenant_id, user_id))
                FROM public.tenant_members
            UNION ALL SELECT 'units: labels used twice in one development', count(*)
                - count(DISTINCT (tenant_id, development_id, label)) FROM public.units
        ) checks WHERE n > 0
    LOOP
        found := found || format(E'\n  %s: %s row(s)', problem.what, problem.n);
    END LOOP;
    IF found <> '' THEN
        RAISE EXCEPTION E'hardening would lose or break rows; nothing was changed:%', found
            USING ERRCODE = 'TP000',
                  HINT = 'Run `tenantproof recover --target T` to repair or quarantine them, then migrate again.';
    END IF;
END
$$;

-- 2. Helpers ---------------------------------------------------------------------------------------------------
CREATE SCHEMA IF NOT EXISTS app;
REVOKE ALL ON SCHEMA app FROM PUBLIC;
GRANT USAGE ON SCHEMA app TO authenticated, service_role;

-- NULL without a claim or with a malformed one: then no row matches.
CREATE OR REPLACE FUNCTION app.current_tenant_id() RETURNS uuid
LANGUAGE sql STABLE SET search_path = '' AS
$$
    SELECT CASE WHEN claim ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN claim::uuid END
    FROM (SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb
                 -> 'app_metadata' ->> 'tenant_id' AS claim) c
$$;

CREATE OR REPLACE FUNCTION app.refuse_tenant_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS
$$
BEGIN
    IF new.tenant_id IS DISTINCT FROM old.tenant_id THEN
        RAISE EXCEPTION 'a row of %.% cannot be moved to another tenant', tg_table_schema, tg_table_name
            USING ERRCODE = 'TP002', HINT = 'Create a new row for the other tenant instead.';
    END IF;
    RETURN new;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA app FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.current_tenant_id() TO authenticated, service_role;

-- 3. Keys that parents need. They take longest, so they come first, the biggest table's before the others ---------
CREATE UNIQUE INDEX IF NOT EXISTS messages_tenant_id_development_id_unit_id_id_key
    ON public.messages (tenant_id, development_id, unit_id, id);
CREATE UNIQUE INDEX IF NOT EXISTS developments_tenant_id_id_key ON public.developments (tenant_id, id);
CREATE UNIQUE INDEX IF NOT EXISTS units_tenant_id_development_id_id_key ON public.units (tenant_id, development_id, id);
CREATE UNIQUE INDEX IF NOT EXISTS units_label_key_by_development ON public.units (tenant_id, development_id, label);
CREATE UNIQUE INDEX IF NOT EXISTS tenant_members_pkey ON public.tenant_members (tenant_id, user_id);
CREATE UNIQUE INDEX IF NOT EXISTS tenants_slug_key ON public.tenants (slug);
CREATE UNIQUE INDEX IF NOT EXISTS onboarding_transactions_tenant_id_id_key
    ON public.onboarding_transactions (tenant_id, id);
CREATE INDEX IF NOT EXISTS tenant_members_user_id_idx ON public.tenant_members (user_id);

-- 4. References that carry the tenant: added NOT VALID, then validated. Readers go on during these scans ----------
DO $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT * FROM (VALUES
            ('developments', 'developments_tenant_fk', '(tenant_id)', 'public.tenants (id)'),
            ('units', 'units_tenant_fk', '(tenant_id)', 'public.tenants (id)'),
            ('units', 'units_development_fk', '(tenant_id, development_id)', 'public.developments (tenant_id, id)'),
            ('messages', 'messages_tenant_fk', '(tenant_id)', 'public.tenants (id)'),
            ('messages', 'messages_development_fk', '(tenant_id, development_id)', 'public.developments (tenant_id, id)'),
            ('messages', 'messages_unit_fk', '(tenant_id, development_id, unit_id)',
                'public.units (tenant_id, development_id, id)'),
            ('tenant_members', 'tenant_members_tenant_fk', '(tenant_id)', 'public.tenants (id)'),
            ('tenant_members', 'tenant_members_user_fk', '(user_id)', 'auth.users (id)'),
            ('onboarding_transactions', 'onboarding_transactions_tenant_fk', '(tenant_id)', 'public.tenants (id)')
        ) AS v (tab, name, cols, target)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c
                       WHERE c.conrelid = format('public.%I', item.tab)::pg_catalog.regclass AND c.conname = item.name) THEN
            EXECUTE format('ALTER TABLE public.%I ADD CONSTRAINT %I FOREIGN KEY %s REFERENCES %s '
                           'ON DELETE RESTRICT ON UPDATE RESTRICT NOT VALID', item.tab, item.name, item.cols, item.target);
        END IF;
        EXECUTE format('ALTER TABLE public.%I VALIDATE CONSTRAINT %I', item.tab, item.name);
    END LOOP;
END
$$;

-- 5. ACCESS EXCLUSIVE from here on. One scan a table for all its NOT NULLs, the biggest table's before the others
--    are locked; the rest only edits the catalog ---------------------------------------------------------------------
DO $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT v.tab, string_agg(format('ALTER COLUMN %I SET NOT NULL', v.col), ', ') AS changes
        FROM (VALUES
            (1, 'messages', 'tenant_id'), (1, 'messages', 'development_id'), (1, 'messages', 'unit_id'),
            (2, 'units', 'tenant_id'), (2, 'units', 'development_id'), (3, 'developments', 'tenant_id'),
            (4, 'tenants', 'slug'), (5, 'tenant_members', 'tenant_id'), (5, 'tenant_members', 'user_id'),
            (6, 'onboarding_transactions', 'tenant_id')
        ) AS v (place, tab, col)
        WHERE NOT (SELECT a.attnotnull FROM pg_catalog.pg_attribute a
                   WHERE a.attrelid = format('public.%I', v.tab)::pg_catalog.regclass AND a.attname = v.col)
        GROUP BY v.place, v.tab
        ORDER BY v.place
    LOOP
        EXECUTE format('ALTER TABLE public.%I %s', item.tab, item.changes);
    END LOOP;
    FOR item IN
        SELECT c.conrelid::pg_catalog.regclass AS tab, c.conname FROM pg_catalog.pg_constraint c
        WHERE c.conname IN ('developments_tenant_id_fkey', 'units_development_id_fkey', 'messages_unit_id_fkey', 'units_label_key')
          AND c.connamespace = 'public'::pg_catalog.regnamespace
        ORDER BY c.conrelid
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', item.tab, item.conname);
    END LOOP;
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = 'public.tenant_members'::pg_catalog.regclass
                   AND contype = 'p') THEN
        ALTER TABLE public.tenant_members ADD CONSTRAINT tenant_members_pkey PRIMARY KEY USING INDEX tenant_members_pkey;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = 'public.tenants'::pg_catalog.regclass
                   AND conname = 'tenants_slug_key') THEN
        ALTER TABLE public.tenants ADD CONSTRAINT tenants_slug_key UNIQUE USING INDEX tenants_slug_key;
    END IF;
END
$$;

-- 6. Guards on top: a readable refusal for what the keys refuse anyway ----------------------------------------
DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY ARRAY['developments', 'units', 'messages', 'tenant_members', 'onboarding_transactions'] LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER refuse_tenant_change BEFORE UPDATE ON public.%I '
                       'FOR EACH ROW EXECUTE FUNCTION app.refuse_tenant_change()', tab);
        EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER refuse_tenant_change', tab);
    END LOOP;
END
$$;

-- 7. Row security, and rights reduced to what policies bind ----------------------------------------------------
DROP POLICY IF EXISTS "messages are readable" ON public.messages;
DROP POLICY IF EXISTS "messages by metadata" ON public.messages;
DROP POLICY IF EXISTS "developments for users" ON public.developments;

DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY ARRAY['developments', 'units', 'messages', 'onboarding_transactions'] LOOP
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', tab);
        EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', tab);
        EXECUTE format('DROP POLICY IF EXISTS tenant_isolation ON public.%I', tab);
        EXECUTE format('CREATE POLICY tenant_isolation ON public.%I FOR ALL TO authenticated '
                       'USING (tenant_id = (SELECT app.current_tenant_id())) '
                       'WITH CHECK (tenant_id = (SELECT app.current_tenant_id()))', tab);
        EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC, anon, authenticated, service_role', tab);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON public.%I TO service_role', tab);
    END LOOP;
END
$$;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.developments, public.units, public.messages TO authenticated;
GRANT SELECT ON public.onboarding_transactions TO authenticated;

ALTER TABLE public.tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.tenants FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_tenant ON public.tenants;
CREATE POLICY own_tenant ON public.tenants FOR SELECT TO authenticated USING (id = (SELECT app.current_tenant_id()));
REVOKE ALL ON public.tenants FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON public.tenants TO authenticated;
GRANT SELECT, INSERT, UPDATE ON public.tenants TO service_role;

ALTER TABLE public.tenant_members ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.tenant_members FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_memberships ON public.tenant_members;
CREATE POLICY own_memberships ON public.tenant_members FOR SELECT TO authenticated
    USING (tenant_id = (SELECT app.current_tenant_id()));
REVOKE ALL ON public.tenant_members FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON public.tenant_members TO authenticated;
GRANT SELECT, INSERT, DELETE ON public.tenant_members TO service_role;

-- 8. Ways round row security -----------------------------------------------------------------------------------
-- It counted every tenant's rows for anyone: that its callers break is the point.
-- squawk-ignore ban-drop-function
DROP FUNCTION IF EXISTS public.tenant_stats();
ALTER VIEW public.message_overview SET (security_invoker = true);
REVOKE ALL ON public.message_overview FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON public.message_overview TO authenticated;

REVOKE CREATE ON SCHEMA public FROM PUBLIC, anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM anon, authenticated;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON FUNCTIONS FROM anon, authenticated;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON SEQUENCES FROM anon, authenticated;
DO $$
BEGIN
    EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END
$$;

-- 9. An owner that nobody logs in as ---------------------------------------------------------------------------
DO $$
DECLARE
    item record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'app_owner') THEN
        CREATE ROLE app_owner NOLOGIN NOINHERIT;
    END IF;
    -- What the creator of a role gets by itself lets it manage the role, not act as it (since Postgres 16).
    IF NOT pg_catalog.pg_has_role(current_user, 'app_owner', 'USAGE') THEN
        EXECUTE format('GRANT app_owner TO %I', current_user);
    END IF;
    GRANT USAGE, CREATE ON SCHEMA public, app TO app_owner;
    GRANT USAGE ON SCHEMA auth TO app_owner;
    GRANT SELECT, REFERENCES ON auth.users TO app_owner;
    FOR item IN
        SELECT c.oid::pg_catalog.regclass AS tab, c.relkind FROM pg_catalog.pg_class c
        WHERE c.oid IN ('public.tenants'::pg_catalog.regclass, 'public.developments'::pg_catalog.regclass,
                        'public.units'::pg_catalog.regclass, 'public.messages'::pg_catalog.regclass,
                        'public.tenant_members'::pg_catalog.regclass,
                        'public.onboarding_transactions'::pg_catalog.regclass,
                        'public.message_overview'::pg_catalog.regclass)
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO app_owner', CASE item.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, item.tab);
    END LOOP;
    ALTER FUNCTION app.current_tenant_id() OWNER TO app_owner;
    ALTER FUNCTION app.refuse_tenant_change() OWNER TO app_owner;
    REVOKE CREATE ON SCHEMA public FROM app_owner;
END
$$;
