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
                                        ('tenantproof_auditor', 'NOINHERIT', false),
                                        ('tenantproof_recorder', 'NOINHERIT', false)) AS v (name, more, past_policies)
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
        IF EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member
                   WHERE r.rolname = wanted.name AND m.roleid <> 'pg_read_all_stats'::pg_catalog.regrole) THEN
            RAISE EXCEPTION 'the role % is a member of others and can do what they may', wanted.name
                USING ERRCODE = 'TP013', HINT = 'REVOKE the roles that it was granted.';
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
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
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
-- Whoever records says what was read; the server says who and when. No reading is of the future or of long ago, so that
-- none moves the watermark past rows that nobody counted.
DROP POLICY IF EXISTS recorder_adds ON public.canary_runs;
CREATE POLICY recorder_adds ON public.canary_runs FOR INSERT TO tenantproof_recorder
    WITH CHECK (run_at <= pg_catalog.now() AND run_at > pg_catalog.now() - interval '1 day');
GRANT USAGE ON SCHEMA public TO tenantproof_recorder;
GRANT INSERT (run_at, target, whole, canary, object, value, level) ON public.canary_runs TO tenantproof_recorder;

-- Which state of which rows is a failed onboarding. The owner says so here; the auditor can ask for no other value.
CREATE TABLE IF NOT EXISTS tenantproof.watched_states (
    table_schema name NOT NULL,
    table_name name NOT NULL,
    state_column name NOT NULL,
    state text NOT NULL,
    time_column name NOT NULL,
    PRIMARY KEY (table_schema, table_name, state_column, state, time_column)
);
REVOKE ALL ON tenantproof.watched_states FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON tenantproof.watched_states TO tenantproof_counter;
INSERT INTO tenantproof.watched_states VALUES ('public', 'onboarding_transactions', 'status', 'failed', 'started_at')
    ON CONFLICT DO NOTHING;

-- New rows are found by their time: a few kilobytes for millions of rows that arrive in its order.
DO $$
BEGIN
    IF pg_catalog.to_regclass('public.messages') IS NOT NULL THEN
        CREATE INDEX IF NOT EXISTS messages_created_at_idx ON public.messages USING brin (created_at);
    END IF;
    IF pg_catalog.to_regclass('public.audit_events') IS NOT NULL THEN
        CREATE INDEX IF NOT EXISTS audit_events_at_idx ON public.audit_events USING brin (at);
    END IF;
END
$$;

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
-- Only a table's own rows against the key of another, and only by a time that the database writes itself: a temporary
-- table of guesses, a column that is no key, or a date of birth would make an oracle of them.
CREATE OR REPLACE FUNCTION tenantproof.require_reference(
    child regclass, parent regclass, parent_columns name[], since_column name)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = '' AS
$$
BEGIN
    IF since_column IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = child AND a.attname = since_column AND a.atttypid = 'timestamptz'::regtype
          AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) IN ('now()', 'clock_timestamp()', 'CURRENT_TIMESTAMP'))
    THEN
        RAISE EXCEPTION 'rows of % are not dated by this column', child USING ERRCODE = 'TP014';
    END IF;
    IF NOT (SELECT pg_catalog.bool_and(c.relkind IN ('r', 'p') AND c.relpersistence = 'p')
            FROM pg_catalog.pg_class c WHERE c.oid IN (child, parent))
       OR NOT EXISTS (
            SELECT FROM pg_catalog.pg_index i
            WHERE i.indrelid = parent AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
              AND parent_columns <@ ARRAY(
                  SELECT a.attname FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k (n)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = parent AND a.attnum = i.indkey[k.n]))
    THEN
        RAISE EXCEPTION '% has no unique key with these columns', parent USING ERRCODE = 'TP014';
    END IF;
END
$$;

-- How the references of all the child's rows are best gone through: NULL, or its columns in the order of an index that
-- begins with them. From one value to the next through that index costs what there are values, not rows; it is worth it
-- where statistics know of twenty rows to each. It would pass over rows with a NULL, so no column may hold one.
CREATE OR REPLACE FUNCTION tenantproof.skip_order(child regclass, child_columns name[])
RETURNS name[] LANGUAGE sql STABLE SET search_path = '' AS
$$
    SELECT led.names FROM (
        SELECT ARRAY(SELECT a.attname FROM pg_catalog.generate_subscripts(child_columns, 1) AS k (n)
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = child AND a.attnum = i.indkey[k.n - 1]
                     WHERE i.indoption[k.n - 1] = 0 AND a.attnotnull
                       AND a.atttypid IN ('uuid'::regtype, 'bigint'::regtype, 'integer'::regtype)
                     ORDER BY k.n) AS names
        FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'btree'
        WHERE i.indrelid = child AND i.indisvalid AND i.indpred IS NULL
    ) AS led
    WHERE led.names @> child_columns AND pg_catalog.cardinality(led.names) = pg_catalog.cardinality(child_columns)
      -- Since 18 a NOT NULL may be one that no row was checked for.
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c
                      WHERE c.conrelid = child AND c.contype = 'n' AND NOT c.convalidated)
      AND (SELECT pg_catalog.count(*) = pg_catalog.cardinality(child_columns) AND 20 * pg_catalog.max(
                      CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * c.reltuples ELSE s.n_distinct END)
                  < pg_catalog.max(c.reltuples)
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname
           WHERE c.oid = child AND s.attname = ANY (child_columns) AND s.inherited = (c.relkind = 'p'))
    LIMIT 1
$$;

-- 0 where every row of the child has a parent that agrees in all the columns: then nothing along this reference is an
-- orphan or misaligned. Otherwise how many rows, or sorts of rows, have none.
CREATE OR REPLACE FUNCTION tenantproof.count_strays(
    child regclass, child_columns name[], parent regclass, parent_columns name[],
    since_column name DEFAULT NULL, since timestamptz DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' SET work_mem = '64MB' AS
$$
DECLARE
    pairs text;
    led name[];
    keys text;
    ahead text;
    behind text;
    found bigint;
BEGIN
    PERFORM tenantproof.require_reference(child, parent, parent_columns, since_column);
    SELECT pg_catalog.string_agg(pg_catalog.format('p.%I = c.%I', b, a), ' AND ')
      INTO STRICT pairs FROM unnest(child_columns, parent_columns) AS u (a, b);
    led := CASE WHEN since IS NULL THEN tenantproof.skip_order(child, child_columns) END;
    IF led IS NULL THEN
        EXECUTE pg_catalog.format('SELECT count(*) FROM %s c WHERE NOT EXISTS (SELECT FROM %s p WHERE %s)%s',
            child, parent, pairs,
            CASE WHEN since IS NULL THEN '' ELSE pg_catalog.format(' AND c.%I >= %L', since_column, since) END) INTO found;
        RETURN found;
    END IF;
    SELECT pg_catalog.string_agg(pg_catalog.format('%I', a), ', '),
           pg_catalog.string_agg(pg_catalog.format('m.%I', a), ', '),
           pg_catalog.string_agg(pg_catalog.format('c.%I', a), ', ')
      INTO STRICT keys, ahead, behind FROM pg_catalog.unnest(led) AS u (a);
    EXECUTE pg_catalog.format(
        'WITH RECURSIVE c AS ((SELECT %2$s FROM %1$s ORDER BY %2$s LIMIT 1) UNION ALL SELECT n.* FROM c, LATERAL '
        '(SELECT %2$s FROM %1$s m WHERE (%3$s) > (%4$s) ORDER BY %2$s LIMIT 1) n) '
        'SELECT count(*) FROM c WHERE NOT EXISTS (SELECT FROM %5$s p WHERE %6$s)',
        child, keys, ahead, behind, parent, pairs) INTO found;
    RETURN found;
END
$$;

CREATE OR REPLACE FUNCTION tenantproof.count_orphans(
    child regclass, child_columns name[], parent regclass, parent_columns name[],
    since_column name DEFAULT NULL, since timestamptz DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' SET work_mem = '64MB' AS
$$
DECLARE
    pairs text;
    present text;
    found bigint;
BEGIN
    PERFORM tenantproof.require_reference(child, parent, parent_columns, since_column);
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
RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' SET work_mem = '64MB' AS
$$
DECLARE
    pairs text;
    differs text;
    found bigint;
BEGIN
    PERFORM tenantproof.require_reference(child, parent, parent_columns, since_column);
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

-- Only what tenantproof.watched_states names: of a state that the auditor chose it would say how often a value occurs.
CREATE OR REPLACE FUNCTION tenantproof.count_failed(tab regclass, state name, failed text, at name, since timestamptz)
RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    found bigint;
BEGIN
    IF NOT EXISTS (
        SELECT FROM tenantproof.watched_states w JOIN pg_catalog.pg_namespace n ON n.nspname = w.table_schema
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name
        WHERE c.oid = tab AND w.state_column = count_failed.state AND w.state = count_failed.failed
          AND w.time_column = count_failed.at)
    THEN
        RAISE EXCEPTION 'no state of % like this is in tenantproof.watched_states', tab
            USING ERRCODE = 'TP014', HINT = 'Its owner adds it there.';
    END IF;
    EXECUTE pg_catalog.format('SELECT count(*) FROM %s WHERE %I::text = %L AND %I >= %L', tab, state, failed, at, since)
       INTO found;
    RETURN found;
END
$$;

-- The most that any one tenant deleted from a table in the window, and what the same hours of past weeks say of it:
-- their median, and the median distance from it. Each window is read by itself, so that an index on `at` serves it. A
-- TRUNCATE tells no number: it counts as a thousand million rows.
CREATE OR REPLACE FUNCTION tenantproof.delete_volumes(hours integer, weeks integer)
RETURNS TABLE (table_name text, deleted bigint, usual double precision, spread double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$
    WITH volumes AS (
        SELECT e.tab, e.tenant_id, w.w, e.n
        FROM pg_catalog.generate_series(0, weeks) AS w (w) CROSS JOIN LATERAL (
            SELECT a.table_schema || '.' || a.table_name AS tab, a.tenant_id,
                   sum(CASE a.operation WHEN 'TRUNCATE' THEN 1000000000 ELSE a.row_count END) AS n
            FROM public.audit_events a
            WHERE a.operation IN ('DELETE', 'TRUNCATE')
              AND a.at >= pg_catalog.now() - pg_catalog.make_interval(weeks => w.w, hours => hours)
              AND a.at < pg_catalog.now() - pg_catalog.make_interval(weeks => w.w)
            GROUP BY 1, 2) AS e
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

-- 1 where the log knows of a write to the table since then, else 0: a first one is soon found.
CREATE OR REPLACE FUNCTION tenantproof.count_events(tab_schema text, tab text, since timestamptz)
RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$
    SELECT count(*) FROM (SELECT FROM public.audit_events e
                          WHERE e.table_schema = tab_schema AND e.table_name = tab AND e.at >= since LIMIT 1) AS found
$$;

-- What a canary read when it was last recorded.
CREATE OR REPLACE FUNCTION tenantproof.last_readings(target_name text, canary_id text)
RETURNS TABLE (object text, value double precision, run_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$
    SELECT DISTINCT ON (r.object) r.object, r.value, r.run_at FROM public.canary_runs r
    WHERE r.target = target_name AND r.canary = canary_id
      AND r.run_at = (SELECT max(n.run_at) FROM public.canary_runs n WHERE n.target = target_name)
    ORDER BY r.object, r.id DESC
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
    -- Two looks at the end of the index, however many runs there were.
    SELECT (SELECT r.run_at FROM public.canary_runs r WHERE r.target = target_name ORDER BY r.run_at DESC LIMIT 1),
           (SELECT r.run_at FROM public.canary_runs r WHERE r.target = target_name AND r.whole ORDER BY r.run_at DESC LIMIT 1)
$$;

-- What is dated in the future is as old as its record.
CREATE OR REPLACE FUNCTION tenantproof.last_drill_hours(target_name text)
RETURNS double precision LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    found double precision;
BEGIN
    EXECUTE 'SELECT extract(epoch FROM clock_timestamp() - max(least(d.finished_at, d.recorded_at))) / 3600'
            ' FROM public.restore_drills d WHERE d.target = $1 AND d.outcome = ''passed''' INTO found USING target_name;
    RETURN found;
END
$$;

CREATE OR REPLACE FUNCTION tenantproof.last_backup_hours(target_name text)
RETURNS double precision LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    found double precision;
BEGIN
    EXECUTE 'SELECT extract(epoch FROM clock_timestamp() - max(least(b.finished_at, b.recorded_at))) / 3600'
            ' FROM public.backup_runs b WHERE b.target = $1 AND b.outcome = ''completed''' INTO found USING target_name;
    RETURN found;
END
$$;

-- 5. Nobody but the auditor runs them; what they call themselves nobody else does ----------------------------------
DO $$
DECLARE
    fun record;
BEGIN
    FOR fun IN
        SELECT p.oid::pg_catalog.regprocedure AS name, p.prosecdef AS asked FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'tenantproof'::pg_catalog.regnamespace
          AND p.proname IN ('require_reference', 'skip_order', 'count_strays', 'count_orphans', 'count_misaligned',
                            'count_nulls', 'count_failed', 'delete_volumes', 'count_events', 'oldest_idle_seconds',
                            'last_canary', 'last_readings', 'last_drill_hours', 'last_backup_hours')
    LOOP
        EXECUTE pg_catalog.format('ALTER FUNCTION %s OWNER TO tenantproof_counter', fun.name);
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, anon, authenticated, service_role', fun.name);
        IF fun.asked THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO tenantproof_auditor', fun.name);
        END IF;
    END LOOP;
    REVOKE CREATE ON SCHEMA tenantproof FROM tenantproof_counter;
END
$$;
