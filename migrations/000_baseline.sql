-- 000 baseline: the product before hardening, on Supabase's roles.
--
-- Kept as it was, gaps and all: nullable tenants, single-column cascading keys, policies for anyone, rights for
-- everyone. 001 closes the gaps; the report on this schema alone lists them.
-- Roles and the auth schema are made only where the platform has not made them.

SET LOCAL client_min_messages = warning;
SET LOCAL lock_timeout = '5s';

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'anon') THEN
        CREATE ROLE anon NOLOGIN NOINHERIT;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticated') THEN
        CREATE ROLE authenticated NOLOGIN NOINHERIT;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'service_role') THEN
        CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticator') THEN
        CREATE ROLE authenticator LOGIN NOINHERIT;
        GRANT anon, authenticated, service_role TO authenticator;
    END IF;
    IF to_regnamespace('auth') IS NULL THEN
        CREATE SCHEMA auth;
        GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role;
    END IF;
    IF to_regclass('auth.users') IS NULL THEN
        CREATE TABLE auth.users (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            email text UNIQUE,
            raw_app_meta_data jsonb NOT NULL DEFAULT '{}',
            raw_user_meta_data jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now()
        );
        ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
    END IF;
    IF to_regprocedure('auth.jwt()') IS NULL THEN
        CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS
        $f$ SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $f$;
    END IF;
    IF to_regprocedure('auth.uid()') IS NULL THEN
        CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS
        $f$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $f$;
    END IF;
END
$$;

CREATE TABLE IF NOT EXISTS public.tenants (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    slug text,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS public.developments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid REFERENCES public.tenants (id) ON DELETE CASCADE,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS public.units (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid,
    development_id uuid REFERENCES public.developments (id) ON DELETE CASCADE,
    label text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS public.messages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid,
    development_id uuid,
    unit_id uuid REFERENCES public.units (id) ON DELETE SET NULL,
    author text NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS public.tenant_members (
    tenant_id uuid,
    user_id uuid,
    role text NOT NULL DEFAULT 'member',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS public.onboarding_transactions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid,
    status text NOT NULL DEFAULT 'started',
    error text,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);

GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
GRANT CREATE ON SCHEMA public TO authenticated;
GRANT ALL ON ALL TABLES IN SCHEMA public TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO anon, authenticated;

ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.developments ENABLE ROW LEVEL SECURITY;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = 'public' AND policyname = 'messages are readable') THEN
        CREATE POLICY "messages are readable" ON public.messages FOR SELECT TO anon, authenticated USING (true);
        CREATE POLICY "messages by metadata" ON public.messages FOR ALL TO authenticated
            USING (tenant_id = ((auth.jwt() -> 'user_metadata' ->> 'tenant_id'))::uuid);
        CREATE POLICY "developments for users" ON public.developments FOR ALL TO authenticated
            USING (auth.uid() IS NOT NULL);
    END IF;
END
$$;

CREATE OR REPLACE VIEW public.message_overview AS
SELECT m.id, m.tenant_id, m.author, m.body, u.label AS unit
FROM public.messages m LEFT JOIN public.units u ON u.id = m.unit_id;
GRANT SELECT ON public.message_overview TO anon, authenticated;

CREATE OR REPLACE FUNCTION public.tenant_stats() RETURNS TABLE (tenant_id uuid, messages bigint)
LANGUAGE sql SECURITY DEFINER AS
$$ SELECT m.tenant_id, count(*) FROM public.messages m GROUP BY m.tenant_id $$;
