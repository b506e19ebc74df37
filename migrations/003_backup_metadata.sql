-- 003 backup metadata: what became of each backup and of each restore drill.
--
-- Records of the tool, about whole databases: they hold no tenant's rows, and no client may read them. The job that
-- backs up or drills logs in as a role of its own that may add rows and change none:
--     CREATE ROLE backup_job LOGIN PASSWORD '...'; GRANT tenantproof_recorder TO backup_job;
-- Run in one transaction; idempotent.

SET LOCAL client_min_messages = warning;
SET LOCAL lock_timeout = '5s';
SET LOCAL search_path = '';

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'tenantproof_recorder') THEN
        CREATE ROLE tenantproof_recorder NOLOGIN NOINHERIT;
    ELSIF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'tenantproof_recorder'
                  AND (rolsuper OR rolbypassrls OR rolcanlogin OR rolreplication OR rolcreaterole)) THEN
        RAISE EXCEPTION 'the role tenantproof_recorder exists and can do more than it may'
            USING ERRCODE = 'TP013',
                  HINT = 'Make it NOSUPERUSER NOBYPASSRLS NOLOGIN NOREPLICATION NOCREATEROLE.';
    END IF;
END
$$;

CREATE TABLE IF NOT EXISTS public.backup_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text NOT NULL,
    target text NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('completed', 'failed')),
    stage text,
    manifest_sha256 text CHECK (manifest_sha256 ~ '^[0-9a-f]{64}$'),
    store text,
    tables bigint,
    tenants bigint,
    rows bigint,
    bytes bigint,
    retention_removed bigint,
    error text,
    tool_version text,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    recorded_by text NOT NULL DEFAULT session_user,
    CHECK (outcome <> 'completed' OR manifest_sha256 IS NOT NULL)
);
CREATE INDEX IF NOT EXISTS backup_runs_target_started_at_idx ON public.backup_runs (target, started_at);

CREATE TABLE IF NOT EXISTS public.restore_drills (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    drill text NOT NULL,
    target text NOT NULL,
    run text,
    manifest_sha256 text CHECK (manifest_sha256 ~ '^[0-9a-f]{64}$'),
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('passed', 'failed')),
    stage text,
    error text,
    restored_to text,
    rpo_seconds double precision,
    rto_seconds double precision,
    tables bigint,
    tenants bigint,
    rows bigint,
    tool_version text,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    recorded_by text NOT NULL DEFAULT session_user,
    CHECK (outcome <> 'passed' OR (run IS NOT NULL AND manifest_sha256 IS NOT NULL))
);
CREATE INDEX IF NOT EXISTS restore_drills_target_started_at_idx ON public.restore_drills (target, started_at);

-- A new owner must have been able to create it; one who is no superuser is asked.
GRANT CREATE ON SCHEMA public TO app_owner;
-- Append alone: whoever records may add, and neither read nor change.
DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY ARRAY['backup_runs', 'restore_drills'] LOOP
        EXECUTE format('ALTER TABLE public.%I OWNER TO app_owner', tab);
        EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC, anon, authenticated, service_role', tab);
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', tab);
        EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', tab);
        EXECUTE format('GRANT INSERT ON public.%I TO tenantproof_recorder', tab);
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polname = 'recorder_adds'
                       AND p.polrelid = format('public.%I', tab)::pg_catalog.regclass) THEN
            EXECUTE format('CREATE POLICY recorder_adds ON public.%I FOR INSERT TO tenantproof_recorder'
                           ' WITH CHECK (true)', tab);
        END IF;
    END LOOP;
END
$$;
REVOKE CREATE ON SCHEMA public FROM app_owner;
GRANT USAGE ON SCHEMA public TO tenantproof_recorder;
