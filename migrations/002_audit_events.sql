-- 002 audit events: every write to a tenant's rows leaves a trace that nobody can change.
--
-- One event a statement and tenant (of at most 1,000 keys each), written by statement-level triggers that read their
-- transition tables. `SELECT tenantproof.audit('public.new_table')` installs them on a new tenant table, and
-- `SELECT tenantproof.audit_partitions()` makes the months ahead. Run in one transaction; idempotent. docs/AUDIT.md.

SET LOCAL client_min_messages = warning;
SET LOCAL lock_timeout = '5s';
SET LOCAL search_path = '';

-- 1. An owner that nobody logs in as -------------------------------------------------------------------------------
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'tenantproof_audit') THEN
        CREATE ROLE tenantproof_audit NOLOGIN NOINHERIT;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'tenantproof_audit'
               AND (rolsuper OR rolbypassrls OR rolcanlogin OR rolreplication OR rolcreaterole)) THEN
        RAISE EXCEPTION 'the role tenantproof_audit exists and can do more than it may'
            USING ERRCODE = 'TP013', HINT = 'Make it NOSUPERUSER NOBYPASSRLS NOLOGIN NOREPLICATION NOCREATEROLE.';
    END IF;
    IF NOT pg_catalog.pg_has_role(current_user, 'tenantproof_audit', 'USAGE') THEN
        EXECUTE format('GRANT tenantproof_audit TO %I', current_user);
    END IF;
END
$$;

CREATE SCHEMA IF NOT EXISTS tenantproof;
REVOKE ALL ON SCHEMA tenantproof FROM PUBLIC;
GRANT USAGE ON SCHEMA tenantproof TO app_owner;
GRANT USAGE, CREATE ON SCHEMA tenantproof TO tenantproof_audit;
GRANT USAGE ON SCHEMA public TO tenantproof_audit;
GRANT USAGE ON SCHEMA app TO tenantproof_audit;

-- 2. The log. Two types and no CHECKs: a CHECK is read and compiled anew for every statement, which costs as much as
-- the rest of a short event --------------------------------------------------------------------------------------------
DO $$
BEGIN
    IF pg_catalog.to_regtype('public.audit_operation') IS NULL THEN
        CREATE TYPE public.audit_operation AS ENUM ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE');
        CREATE TYPE public.audit_actor_source AS ENUM ('binding', 'service', 'jwt', 'role');
    END IF;
END
$$;
CREATE TABLE IF NOT EXISTS public.audit_events (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    tenant_id uuid NOT NULL,
    actor text NOT NULL,
    actor_source public.audit_actor_source NOT NULL,
    database_role text NOT NULL,
    session_role text NOT NULL DEFAULT session_user,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    operation public.audit_operation NOT NULL,
    row_count bigint,
    key_columns text[] NOT NULL,
    keys text[],
    changed text[],
    application_name text NOT NULL DEFAULT current_setting('application_name'),
    request_id text,
    PRIMARY KEY (xid, id, at)
) PARTITION BY RANGE (at);
COMMENT ON TABLE public.audit_events IS 'Append-only. A tenant_id of zeros: TRUNCATE, which loses the rows of every tenant.';
CREATE INDEX IF NOT EXISTS audit_events_tenant_id_id_idx ON public.audit_events (tenant_id, id);

CREATE OR REPLACE FUNCTION tenantproof.refuse_audit_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS
$$
BEGIN
    RAISE EXCEPTION '% on %.% is forbidden: it is append-only', tg_op, tg_table_schema, tg_table_name
        USING ERRCODE = 'TP001', HINT = 'Audit events are kept as they are.';
END
$$;

CREATE OR REPLACE FUNCTION tenantproof.refuse_key_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = '' AS
$$
BEGIN
    RAISE EXCEPTION 'the primary key of a row of %.% cannot be changed', tg_table_schema, tg_table_name
        USING ERRCODE = 'TP005', HINT = 'The audit log names rows by it. Create a new row instead.';
END
$$;

-- Statement triggers are not cloned to partitions: each gets its own.
CREATE OR REPLACE FUNCTION tenantproof.guard_audit_table(tab pg_catalog.regclass) RETURNS void
LANGUAGE plpgsql SET search_path = '' AS
$$
BEGIN
    EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', tab);
    EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM PUBLIC, anon, authenticated, service_role', tab);
    EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s '
                              'FOR EACH STATEMENT EXECUTE FUNCTION tenantproof.refuse_audit_change()', tab);
    EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', tab);
END
$$;

-- Gives how many it made. Run it monthly; `tenantproof seal` does.
CREATE OR REPLACE FUNCTION tenantproof.audit_partitions(months integer DEFAULT 12) RETURNS integer
LANGUAGE plpgsql SET search_path = '' AS
$$
DECLARE
    first timestamptz;
    made integer := 0;
    tab text;
BEGIN
    FOR n IN 0..months LOOP
        first := (pg_catalog.date_trunc('month', pg_catalog.timezone('UTC', pg_catalog.clock_timestamp()))
                  + pg_catalog.make_interval(months => n))::timestamp AT TIME ZONE 'UTC';
        tab := 'audit_events_' || pg_catalog.to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
        CONTINUE WHEN pg_catalog.to_regclass('public.' || tab) IS NOT NULL;
        -- A new owner must have been able to create it; one who is no superuser is asked.
        GRANT CREATE ON SCHEMA public TO tenantproof_audit;
        EXECUTE pg_catalog.format('CREATE TABLE public.%I PARTITION OF public.audit_events FOR VALUES FROM (%L) TO (%L)',
            tab, first, (first AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC');
        PERFORM tenantproof.guard_audit_table(pg_catalog.format('public.%I', tab)::pg_catalog.regclass);
        EXECUTE pg_catalog.format('ALTER TABLE public.%I OWNER TO tenantproof_audit', tab);
        REVOKE CREATE ON SCHEMA public FROM tenantproof_audit;
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- 3. Who did it, and how that is known ------------------------------------------------------------------------------
-- A client's word counts for nothing: the sealed binding of the tenant-scoped client, what the service role says, the
-- gateway's claim, or else the database role, which stands beside the actor in any case. A trigger fires after its
-- statement, which may have changed role and claims since rights were checked. So a back end that is not, or no longer,
-- bound when its event is written is refused: as app_scoped without a binding, or as its login, which has no rights.
CREATE OR REPLACE FUNCTION tenantproof.actor(tab oid, operation text, OUT actor text,
    OUT source public.audit_actor_source, OUT who text, OUT request text)
LANGUAGE plpgsql STABLE SET search_path = '' AS
$$
DECLARE
    claims jsonb;
BEGIN
    who := pg_catalog.current_setting('role');
    source := 'role';
    IF who = 'app_scoped' THEN
        claims := tenantproof.bound_claims();
        actor := claims ->> 'actor';
        request := nullif(claims ->> 'request_id', '');
        source := 'binding';
        IF actor IS NULL THEN
            RAISE EXCEPTION 'the tenant or the actor of this transaction was not bound by bind_tenant()'
                USING ERRCODE = 'TP011', HINT = 'Only the message that begins a transaction may bind them.';
        END IF;
        RETURN;
    END IF;
    request := nullif(pg_catalog.current_setting('app.request_id', true), '');
    IF who = 'service_role' THEN
        actor := nullif(pg_catalog.current_setting('app.actor', true), '');
        source := 'service';
    ELSIF who = 'authenticated' THEN
        actor := nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub';
        source := 'jwt';
    ELSE
        who := CASE who WHEN 'none' THEN session_user ELSE who END;
        IF NOT pg_catalog.has_table_privilege(who::name, tab, operation)
           AND pg_catalog.pg_has_role(session_user, pg_catalog.to_regrole('app_scoped')::oid, 'MEMBER') THEN
            RAISE EXCEPTION 'the role of this transaction was given up while it wrote to %', tab::pg_catalog.regclass
                USING ERRCODE = 'TP011', HINT = 'A back end writes as app_scoped, from BEGIN to COMMIT.';
        END IF;
    END IF;
    IF actor IS NULL THEN
        actor := 'system:' || who;
        source := 'role';
    END IF;
END
$$;

-- 4. The triggers' functions. Arguments: the tenant's column, then the primary key's ----------------------------------
CREATE OR REPLACE FUNCTION tenantproof.audit_key(image jsonb, columns text[]) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN cardinality(columns) = 1 THEN image ->> columns[1]
            ELSE (SELECT jsonb_agg(image -> c.name ORDER BY c.place)::text
                  FROM unnest(columns) WITH ORDINALITY AS c (name, place)) END;

-- The first INSERT is the second one for a single row, at half its cost.
CREATE OR REPLACE FUNCTION tenantproof.audit_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    writer record;
    columns text[] := tg_argv[1:];
BEGIN
    writer := tenantproof.actor(tg_relid, tg_op);
    PERFORM FROM changed_rows OFFSET 1;
    IF NOT FOUND THEN
        INSERT INTO public.audit_events (tenant_id, actor, actor_source, database_role, table_schema, table_name,
            operation, row_count, key_columns, keys, request_id)
        SELECT (r.image ->> tg_argv[0])::uuid, writer.actor, writer.source, writer.who, tg_table_schema, tg_table_name,
            tg_op::public.audit_operation, 1, columns, ARRAY[tenantproof.audit_key(r.image, columns)], writer.request
        FROM (SELECT pg_catalog.to_jsonb(c) AS image FROM changed_rows c OFFSET 0) r;
    ELSE
        INSERT INTO public.audit_events (tenant_id, actor, actor_source, database_role, table_schema, table_name,
            operation, row_count, key_columns, keys, request_id)
        SELECT g.tenant_id::uuid, writer.actor, writer.source, writer.who, tg_table_schema, tg_table_name,
            tg_op::public.audit_operation, count(*), columns, pg_catalog.array_agg(g.key), writer.request
        FROM (SELECT r.image ->> tg_argv[0] AS tenant_id, tenantproof.audit_key(r.image, columns) AS key,
                  (pg_catalog.row_number() OVER () - 1) / 1000 AS part
              FROM (SELECT pg_catalog.to_jsonb(c) AS image FROM changed_rows c OFFSET 0) r) g
        GROUP BY g.tenant_id, g.part;
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION tenantproof.audit_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS
$$
DECLARE
    writer record;
    columns text[] := tg_argv[1:];
BEGIN
    writer := tenantproof.actor(tg_relid, tg_op);
    PERFORM FROM changed_rows OFFSET 1;
    IF NOT FOUND THEN
        INSERT INTO public.audit_events (tenant_id, actor, actor_source, database_role, table_schema, table_name,
            operation, row_count, key_columns, keys, changed, request_id)
        SELECT (n.image ->> tg_argv[0])::uuid, writer.actor, writer.source, writer.who, tg_table_schema, tg_table_name,
            tg_op::public.audit_operation, 1, columns, ARRAY[tenantproof.audit_key(n.image, columns)],
            (SELECT pg_catalog.array_agg(e.key ORDER BY e.key) FROM pg_catalog.jsonb_each(n.image) e
             WHERE (o.image -> e.key) IS DISTINCT FROM e.value), writer.request
        FROM (SELECT pg_catalog.to_jsonb(c) AS image FROM changed_rows c OFFSET 0) n
        LEFT JOIN (SELECT pg_catalog.to_jsonb(c) AS image FROM former_rows c OFFSET 0) o ON true;
    ELSE
        INSERT INTO public.audit_events (tenant_id, actor, actor_source, database_role, table_schema, table_name,
            operation, row_count, key_columns, keys, changed, request_id)
        SELECT g.tenant_id::uuid, writer.actor, writer.source, writer.who, tg_table_schema, tg_table_name,
            tg_op::public.audit_operation, count(*), columns, pg_catalog.array_agg(g.key), g.changed, writer.request
        FROM (SELECT n.image ->> tg_argv[0] AS tenant_id, n.key, d.changed,
                  (pg_catalog.row_number() OVER () - 1) / 1000 AS part
              FROM (SELECT i.image, tenantproof.audit_key(i.image, columns) AS key
                    FROM (SELECT pg_catalog.to_jsonb(c) AS image FROM changed_rows c OFFSET 0) i) n
              LEFT JOIN (SELECT i.image, tenantproof.audit_key(i.image, columns) AS key
                    FROM (SELECT pg_catalog.to_jsonb(c) AS image FROM former_rows c OFFSET 0) i) o ON o.key = n.key
              CROSS JOIN LATERAL (
                  SELECT pg_catalog.array_agg(e.key ORDER BY e.key) AS changed FROM pg_catalog.jsonb_each(n.image) e
                  WHERE (o.image -> e.key) IS DISTINCT FROM e.value) d) g
        GROUP BY g.tenant_id, g.changed, g.part;
    END IF;
    RETURN NULL;
END
$$;

-- TRUNCATE has no rows to take a tenant from: its event is of every tenant, and carries none's id.
CREATE OR REPLACE FUNCTION tenantproof.audit_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS
$$
BEGIN
    INSERT INTO public.audit_events (tenant_id, actor, actor_source, database_role, table_schema, table_name,
        operation, key_columns, request_id)
    SELECT '00000000-0000-0000-0000-000000000000', a.actor, a.source, a.who, tg_table_schema, tg_table_name,
        tg_op::public.audit_operation,
        tg_argv[1:], a.request
    FROM tenantproof.actor(tg_relid, tg_op) a;
    RETURN NULL;
END
$$;

-- 5. Installing them. Call it for every new tenant table, and again for a new partition ---------------------------------
CREATE OR REPLACE FUNCTION tenantproof.audit(tab pg_catalog.regclass, tenant_column name DEFAULT 'tenant_id') RETURNS void
LANGUAGE plpgsql SET search_path = '' AS
$$
DECLARE
    part pg_catalog.regclass;
    item record;
    key_columns text[];
    arguments text;
    changes text;
BEGIN
    SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.place) INTO key_columns
    FROM pg_catalog.pg_index i CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (number, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
    WHERE i.indrelid = tab AND i.indisprimary;
    IF key_columns IS NULL THEN
        RAISE EXCEPTION '% has no primary key: its audit events could not name rows', tab USING ERRCODE = 'TP006';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                   WHERE a.attrelid = tab AND a.attname = tenant_column AND NOT a.attisdropped) THEN
        RAISE EXCEPTION '% has no column %', tab, tenant_column USING ERRCODE = 'TP006';
    END IF;
    SELECT pg_catalog.string_agg(pg_catalog.quote_literal(c.name), ', ' ORDER BY c.place),
        pg_catalog.string_agg(pg_catalog.format('old.%1$I IS DISTINCT FROM new.%1$I', c.name), ' OR ' ORDER BY c.place)
            FILTER (WHERE c.place > 1)
    INTO arguments, changes
    FROM unnest(tenant_column::text || key_columns) WITH ORDINALITY AS c (name, place);
    FOR part IN SELECT t.relid FROM pg_catalog.pg_partition_tree(tab) t UNION SELECT tab LOOP
        FOR item IN
            SELECT * FROM (VALUES
                ('audit_insert', 'AFTER INSERT ON %s REFERENCING NEW TABLE AS changed_rows', 'audit_write'),
                ('audit_delete', 'AFTER DELETE ON %s REFERENCING OLD TABLE AS changed_rows', 'audit_write'),
                ('audit_update', 'AFTER UPDATE ON %s REFERENCING OLD TABLE AS former_rows NEW TABLE AS changed_rows',
                    'audit_update'),
                ('audit_truncate', 'AFTER TRUNCATE ON %s', 'audit_truncate')
            ) AS v (name, event, function)
        LOOP
            EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER %I ' || item.event
                || ' FOR EACH STATEMENT EXECUTE FUNCTION tenantproof.%I(%s)', item.name, part, item.function, arguments);
            EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', part, item.name);
        END LOOP;
    END LOOP;
    EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER refuse_key_change AFTER UPDATE ON %s FOR EACH ROW WHEN (%s) '
                              'EXECUTE FUNCTION tenantproof.refuse_key_change()', tab, changes);
    EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER refuse_key_change', tab);
END
$$;

-- 6. Months ahead, the rest, policies, owner and rights ------------------------------------------------------------------
CREATE TABLE IF NOT EXISTS public.audit_events_default PARTITION OF public.audit_events DEFAULT;
DO $$
DECLARE
    item pg_catalog.regprocedure;
BEGIN
    PERFORM tenantproof.audit_partitions();
    PERFORM tenantproof.guard_audit_table(t.relid) FROM pg_catalog.pg_partition_tree('public.audit_events') t;
    FOR item IN
        SELECT p.oid FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'tenantproof'::pg_catalog.regnamespace
          AND p.proname IN ('refuse_audit_change', 'refuse_key_change', 'guard_audit_table', 'audit_partitions', 'actor',
                            'audit_key', 'audit_write', 'audit_update', 'audit_truncate', 'audit')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, anon, authenticated, service_role', item);
        EXECUTE format('ALTER FUNCTION %s OWNER TO tenantproof_audit', item);
    END LOOP;
END
$$;
GRANT EXECUTE ON FUNCTION tenantproof.audit(regclass, name) TO app_owner;
DO $$
BEGIN
    IF pg_catalog.to_regprocedure('tenantproof.bound_claims()') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION tenantproof.bound_claims() TO tenantproof_audit;
    END IF;
END
$$;

DROP POLICY IF EXISTS events_by_triggers ON public.audit_events;
CREATE POLICY events_by_triggers ON public.audit_events FOR INSERT TO tenantproof_audit WITH CHECK (true);
DROP POLICY IF EXISTS own_events ON public.audit_events;
CREATE POLICY own_events ON public.audit_events FOR SELECT TO authenticated
    USING (tenant_id = (SELECT app.current_tenant_id()));
GRANT SELECT ON public.audit_events TO authenticated;

DO $$
BEGIN
    PERFORM tenantproof.audit('public.tenants', 'id');
    PERFORM tenantproof.audit('public.developments');
    PERFORM tenantproof.audit('public.units');
    PERFORM tenantproof.audit('public.messages');
    PERFORM tenantproof.audit('public.tenant_members');
    PERFORM tenantproof.audit('public.onboarding_transactions');
END
$$;

GRANT CREATE ON SCHEMA public TO tenantproof_audit;
ALTER TABLE public.audit_events OWNER TO tenantproof_audit;
ALTER TABLE public.audit_events_default OWNER TO tenantproof_audit;
REVOKE CREATE ON SCHEMA tenantproof, public FROM tenantproof_audit;
