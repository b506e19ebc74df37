-- 004 canaries: what is counted every quarter of an hour, by functions that give numbers and nothing else.
--
-- Whoever watches logs in as a role of its own that can read no tenant's row:
--     CREATE ROLE canary_job LOGIN PASSWORD '...'; GRANT tenantproof_auditor TO canary_job;
-- The functions run as tenantproof_counter, which nobody can become: it reads past row security, and has no login.
-- Run in one transaction; idempotent.

SET LOCAL client_min_messages = warning;
SET LOCAL lock_timeout = '5s';
SET LOCAL search_path = '';
-- A product without an audit log can still have the other canaries.
SET LOCAL check_function_bodies = off;

-- 1. Roles -----------------------------------------------------------------------------------------------------
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN SELECT * FROM (VALUES ('tenantproof_counter', 'INHERIT BYPASSRLS', true),
                                        ('tenantproof_auditor', 'NOINHERIT', false)) AS v (name, more, past_policies)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name) THEN
            BEGIN
                EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN %s', wanted.name, wanted.more);
            EXCEPTION WHEN insufficient_privilege THEN
                RAISE EXCEPTION '% may not create the role %: %', current_user, wanted.name, sqlerrm
                    USING ERRCODE = 'TP013', HINT = pg_catalog.format('Have a role that may do it run: '
                        'CREATE ROLE %I NOLOGIN %s; then migrate again.', wanted.name, wanted.more);
            END;
        ELSIF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name
                      AND (rolsuper OR rolcanlogin OR rolreplication OR rolcreaterole
                           OR rolbypassrls AND NOT wanted.past_policies)) THEN
            RAISE EXCEPTION 'the role % exists and can do more than it may', wanted.name
                USING ERRCODE = 'TP013', HINT = pg_catalog.format('Make it NOSUPERUSER NOLOGIN NOREPLICATION NOCREATEROLE%s.',
                    CASE WHEN wanted.past_policies THEN '' ELSE ' NOBYPASSRLS' END);
        ELSIF wanted.past_policies AND EXISTS (SELECT FROM pg_catalog.pg_roles
                                               WHERE rolname = wanted.name AND NOT rolbypassrls) THEN
            RAISE EXCEPTION 'the role % exists and would count only what policies show it: nothing', wanted.name
                USING ERRCODE = 'TP013', HINT = pg_catalog.format('ALTER ROLE %I BYPASSRLS.', wanted.name);
        END IF;
    END LOOP;
    IF NOT pg_catalog.pg_has_role(current_user, 'tenantproof_counter', 'USAGE') THEN
        EXECUTE pg_catalog.format('GRANT tenantproof_counter TO %I', current_user);
    END IF;
END
$$;
-- Without this right transactions of others have no age to be seen; the canary then says that it could not look.
DO $$
BEGIN
    GRANT pg_read_all_stats TO tenantproof_counter;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'tenantproof_counter may not read the statistics of other sessions';
END
$$;

CREATE SCHEMA IF NOT EXISTS tenantproof;
REVOKE ALL ON SCHEMA tenantproof FROM PUBLIC;
GRANT USAGE ON SCHEMA tenantproof TO tenantproof_auditor;
GRANT USAGE, CREATE ON SCHEMA tenantproof TO tenantproof_counter;
GRANT USAGE ON SCHEMA public TO tenantproof_counter;

-- 2. Results, kept for trends -----------------------------------------------------------------------------------
CREATE TABLE IF NOT EXISTS public.canary_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_at timestamptz NOT NULL,
    target text NOT NULL,
    whole boolean NOT NULL,
    canary text NOT NULL,
    object text NOT NULL,
    value double precision NOT NULL,
    level text NOT NULL CHECK (level IN ('ok', 'warn', 'fail')),
    recorded_by text NOT NULL DEFAULT session_user
);
CREATE INDEX IF NOT EXISTS canary_runs_target_run_at_idx ON public.canary_runs (target, run_at);
-- A new owner must have been able to create it; one who is no superuser is asked.
GRANT CREATE ON SCHEMA public TO app_owner;
ALTER TABLE public.canary_runs OWNER TO app_owner;
REVOKE CREATE ON SCHEMA public FROM app_owner;
ALTER TABLE public.canary_runs ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.canary_runs FORCE ROW LEVEL SECURITY;
REVOKE ALL ON public.canary_runs FROM PUBLIC, anon, authenticated, service_role;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'tenantproof_recorder') THEN
        CREATE ROLE tenantproof_recorder NOLOGIN NOINHERIT;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_policy
                   WHERE polrelid = 'public.canary_runs'::pg_catalog.regclass AND polname = 'recorder_adds') THEN
        CREATE POLICY recorder_adds ON public.canary_runs FOR INSERT TO tenantproof_recorder WITH CHECK (true);
    END IF;
END
$$;
GRANT USAGE ON SCHEMA public TO tenantproof_recorder;
GRANT INSERT ON public.canary_runs TO tenantproof_recorder;

-- 3. What the counting role may read: everything that can be an orphan's parent or child, never more ---------------
DO $$
DECLARE
    tab record;
BEGIN
    FOR tab IN
        SELECT c.oid::pg_catalog.regclass AS name FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'public'::pg_catalog.regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    LOOP
        EXECUTE pg_catalog.format('GRANT SELECT ON %s TO tenantproof_counter', tab.name);
    END LOOP;
END
$$;

-- 4. Counting. Names arrive as regclass and name and are quoted by format(); no value of a row is ever given back ----
CREATE OR REPLACE FUNCTION tenantproof.count_orphans(
    child regclass, child_columns name[], parent regclass, parent_columns name[],
    since_column name DEFAULT NULL, since timestamptz DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    pairs text;
    present text;
    found bigint;
BEGIN
    SELECT pg_catalog.string_agg(pg_catalog.format('p.%I = c.%I', b, a), ' AND '),
           pg_catalog.string_agg(pg_catalog.format('c.%I IS NOT NULL', a), ' AND ')
      INTO STRICT pairs, present FROM unnest(child_columns, parent_columns) AS u (a, b);
    EXECUTE pg_catalog.format('SELECT count(*) FROM %s c WHERE %s AND NOT EXISTS (SELECT FROM %s p WHERE %s)%s',
        child, present, parent, pairs,
        CASE WHEN since IS NULL THEN '' ELSE pg_catalog.format(' AND c.%I >= %L', since_column, since) END) INTO found;
    RETURN found;
END
$$;

CREATE OR REPLACE FUNCTION tenantproof.count_misaligned(
    child regclass, child_columns name[], parent regclass, parent_columns name[], child_same name[], parent_same name[],
    since_column name DEFAULT NULL, since timestamptz DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    pairs text;
    differs text;
    found bigint;
BEGIN
    SELECT pg_catalog.string_agg(pg_catalog.format('p.%I = c.%I', b, a), ' AND ')
      INTO STRICT pairs FROM unnest(child_columns, parent_columns) AS u (a, b);
    SELECT pg_catalog.string_agg(pg_catalog.format('p.%I IS DISTINCT FROM c.%I', b, a), ' OR ')
      INTO STRICT differs FROM unnest(child_same, parent_same) AS u (a, b);
    EXECUTE pg_catalog.format('SELECT count(*) FROM %s c JOIN %s p ON %s WHERE (%s)%s', child, parent, pairs, differs,
        CASE WHEN since IS NULL THEN '' ELSE pg_catalog.format(' AND c.%I >= %L', since_column, since) END) INTO found;
    RETURN found;
END
$$;

CREATE OR REPLACE FUNCTION tenantproof.count_nulls(tab regclass, col name)
RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    found bigint;
BEGIN
    EXECUTE pg_catalog.format('SELECT count(*) FROM %s WHERE %I IS NULL', tab, col) INTO found;
    RETURN found;
END
$$;

CREATE OR REPLACE FUNCTION tenantproof.count_failed(tab regclass, state name, failed text, at name, since timestamptz)
RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    found bigint;
BEGIN
    EXECUTE pg_catalog.format('SELECT count(*) FROM %s WHERE %I::text = %L AND %I >= %L', tab, state, failed, at, since)
       INTO found;
    RETURN found;
END
$$;

-- The most that any one tenant deleted from a table in the window, and what the same hours of past weeks say of it:
-- their median, and the median distance from it.
CREATE OR REPLACE FUNCTION tenantproof.delete_volumes(hours integer, weeks integer)
RETURNS TABLE (table_name text, deleted bigint, usual double precision, spread double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$
    WITH window_of AS (
        SELECT w, pg_catalog.now() - pg_catalog.make_interval(weeks => w, hours => hours) AS low,
               pg_catalog.now() - pg_catalog.make_interval(weeks => w) AS high
        FROM pg_catalog.generate_series(0, weeks) AS w
    ), volumes AS (
        SELECT e.table_schema || '.' || e.table_name AS tab, e.tenant_id, w.w, sum(e.row_count) AS n
        FROM public.audit_events e JOIN window_of w ON e.at >= w.low AND e.at < w.high
        WHERE e.operation IN ('DELETE', 'TRUNCATE') AND e.at >= (SELECT min(low) FROM window_of)
        GROUP BY 1, 2, 3
    ), now_deleted AS (
        SELECT tab, tenant_id, n FROM volumes WHERE w = 0
    ), past AS (
        SELECT d.tab, d.tenant_id, coalesce(v.n, 0) AS n
        FROM now_deleted d CROSS JOIN pg_catalog.generate_series(1, weeks) AS past_week
        LEFT JOIN volumes v ON v.tab = d.tab AND v.tenant_id = d.tenant_id AND v.w = past_week
    ), medians AS (
        SELECT tab, tenant_id, percentile_cont(0.5) WITHIN GROUP (ORDER BY n) AS m FROM past GROUP BY 1, 2
    ), spreads AS (
        SELECT p.tab, p.tenant_id, m.m, percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(p.n - m.m)) AS s
        FROM past p JOIN medians m USING (tab, tenant_id) GROUP BY 1, 2, 3
    )
    SELECT d.tab, coalesce(d.n, 0)::bigint, s.m, s.s FROM now_deleted d JOIN spreads s USING (tab, tenant_id)
$$;

CREATE OR REPLACE FUNCTION tenantproof.count_events(tab_schema text, tab text)
RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$
    SELECT count(*) FROM public.audit_events e WHERE e.table_schema = tab_schema AND e.table_name = tab
$$;

-- NULL where the counting role may not see other sessions' transactions.
CREATE OR REPLACE FUNCTION tenantproof.oldest_idle_seconds()
RETURNS double precision LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$
    SELECT CASE WHEN pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') THEN
        coalesce((SELECT max(extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change))
                  FROM pg_catalog.pg_stat_activity a
                  WHERE a.state LIKE 'idle in transaction%' AND a.backend_xmin IS NOT NULL), 0) END
$$;

CREATE OR REPLACE FUNCTION tenantproof.last_canary(target_name text, OUT run_at timestamptz, OUT whole_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$
    SELECT max(r.run_at), max(r.run_at) FILTER (WHERE r.whole) FROM public.canary_runs r WHERE r.target = target_name
$$;

CREATE OR REPLACE FUNCTION tenantproof.last_drill_hours(target_name text)
RETURNS double precision LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    found double precision;
BEGIN
    EXECUTE 'SELECT extract(epoch FROM clock_timestamp() - max(d.finished_at)) / 3600 FROM public.restore_drills d'
            ' WHERE d.target = $1 AND d.outcome = ''passed''' INTO found USING target_name;
    RETURN found;
END
$$;

-- 5. Nobody but the auditor runs them -----------------------------------------------------------------------------
DO $$
DECLARE
    fun record;
BEGIN
    FOR fun IN
        SELECT p.oid::pg_catalog.regprocedure AS name FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'tenantproof'::pg_catalog.regnamespace
          AND p.proname IN ('count_orphans', 'count_misaligned', 'count_nulls', 'count_failed', 'delete_volumes',
                            'count_events', 'oldest_idle_seconds', 'last_canary', 'last_drill_hours')
    LOOP
        EXECUTE pg_catalog.format('ALTER FUNCTION %s OWNER TO tenantproof_counter', fun.name);
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, anon, authenticated, service_role', fun.name);
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO tenantproof_auditor', fun.name);
    END LOOP;
    REVOKE CREATE ON SCHEMA tenantproof FROM tenantproof_counter;
END
$$;
