-- What the policies of the tests stand on. Loaded as superuser into an empty database.
CREATE ROLE anon NOLOGIN; CREATE ROLE authenticated NOLOGIN; CREATE ROLE service_role NOLOGIN BYPASSRLS;
CREATE ROLE staff NOLOGIN; GRANT staff TO authenticated; CREATE ROLE other_staff NOLOGIN;
CREATE SCHEMA auth; CREATE SCHEMA app;
GRANT USAGE ON SCHEMA auth, app, public TO anon, authenticated;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS
$$ SELECT coalesce(nullif(current_setting('request.jwt.claim', true), ''), nullif(current_setting('request.jwt.claims', true), ''))::jsonb $$;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT coalesce(nullif(current_setting('request.jwt.claim.role', true), ''), (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')) $$;
CREATE TABLE auth.users (id uuid PRIMARY KEY);
CREATE TABLE tenants (id uuid PRIMARY KEY, slug text UNIQUE NOT NULL);
CREATE TABLE members (tenant_id uuid NOT NULL REFERENCES tenants, user_id uuid NOT NULL REFERENCES auth.users, role text NOT NULL, PRIMARY KEY (tenant_id, user_id));
CREATE TABLE projects (id uuid PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants, name text, owner_id uuid, UNIQUE (tenant_id, id));
CREATE TABLE boards (id uuid PRIMARY KEY, project_id uuid NOT NULL REFERENCES projects, title text);
CREATE TABLE plans (code text PRIMARY KEY, open boolean NOT NULL);
CREATE FUNCTION app.tenant() RETURNS uuid LANGUAGE sql STABLE SET search_path = '' AS
$$ SELECT nullif(auth.jwt() -> 'app_metadata' ->> 'tenant_id', '')::uuid $$;
CREATE FUNCTION app.require_tenant() RETURNS uuid LANGUAGE plpgsql STABLE SET search_path = '' AS
$$ DECLARE t uuid := app.tenant(); BEGIN IF t IS NULL THEN RAISE EXCEPTION 'no tenant'; END IF; RETURN t; END $$;
CREATE FUNCTION app.is_member(t uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$ SELECT EXISTS (SELECT FROM public.members m WHERE m.tenant_id = t AND m.user_id = auth.uid()) $$;
CREATE FUNCTION app.is_member_plpgsql(t uuid) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS
$$ DECLARE ok boolean; BEGIN SELECT EXISTS (SELECT 1 FROM public.members m WHERE m.tenant_id = t AND m.user_id = auth.uid()) INTO ok; RETURN ok; END $$;
CREATE FUNCTION app.is_member_found(t uuid) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS
$$ BEGIN PERFORM 1 FROM public.members m WHERE m.tenant_id = t AND m.user_id = auth.uid(); IF FOUND THEN RETURN true; END IF; RETURN false; END $$;
CREATE FUNCTION app.my_tenants() RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$ SELECT tenant_id FROM public.members WHERE user_id = auth.uid() $$;
CREATE FUNCTION app.my_tenant_array() RETURNS uuid[] LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$ SELECT array_agg(m.tenant_id) FROM public.members m WHERE m.user_id = auth.uid() $$;
CREATE FUNCTION app.any_member(t uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$ SELECT EXISTS (SELECT FROM public.members m WHERE m.tenant_id = t) $$;
CREATE FUNCTION app.captured(tenant_id uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$ SELECT EXISTS (SELECT FROM public.members m WHERE m.tenant_id = tenant_id AND m.user_id = auth.uid()) $$;
CREATE FUNCTION app.or_true(t uuid) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS
$$ BEGIN RETURN app.is_member(t); EXCEPTION WHEN OTHERS THEN RETURN true; END $$;
CREATE FUNCTION app.unless_null(t uuid) RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = '' AS
$$ BEGIN IF t <> app.tenant() THEN RETURN false; END IF; RETURN true; END $$;
CREATE FUNCTION app.strictly(t uuid) RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = '' AS
$$ BEGIN IF app.tenant() IS NULL OR t IS DISTINCT FROM app.tenant() THEN RETURN false; END IF; RETURN true; END $$;
CREATE FUNCTION app.by_setting() RETURNS uuid LANGUAGE sql STABLE SET search_path = '' AS
$$ SELECT current_setting('app.tenant', true)::uuid $$;
CREATE FUNCTION app.metadata_tenant() RETURNS uuid LANGUAGE sql STABLE SET search_path = '' AS
$$ SELECT (auth.jwt() -> 'user_metadata' ->> 'tenant_id')::uuid $$;
CREATE FUNCTION app.is_admin() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$ SELECT EXISTS (SELECT FROM public.members WHERE user_id = auth.uid() AND role = 'admin') $$;
CREATE FUNCTION app.same(a uuid, b uuid) RETURNS boolean LANGUAGE sql IMMUTABLE SET search_path = '' AS $$ SELECT a = b $$;
CREATE FUNCTION app.always(a uuid, b uuid) RETURNS boolean LANGUAGE sql IMMUTABLE SET search_path = '' AS $$ SELECT true $$;
CREATE OPERATOR app.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = app.always);
CREATE FUNCTION app.can_see(p uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$ SELECT EXISTS (SELECT FROM public.projects x WHERE x.id = p AND x.tenant_id = app.tenant()) $$;
CREATE FUNCTION app.tenant_of(p uuid) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
$$ SELECT tenant_id FROM public.projects WHERE id = p $$;
CREATE TYPE app.level AS ENUM ('owner', 'member');
CREATE FUNCTION app.has_level(tenant_id uuid, level app.level DEFAULT NULL) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = public AS
$$ SELECT EXISTS (SELECT 1 FROM public.members wu WHERE wu.user_id = auth.uid() AND wu.tenant_id = has_level.tenant_id
   AND (wu.role = has_level.level::text OR has_level.level IS NULL)) $$;
CREATE FUNCTION app.tenants_with(level app.level DEFAULT NULL) RETURNS SETOF uuid LANGUAGE sql SECURITY DEFINER SET search_path = public AS
$$ SELECT tenant_id FROM public.members wu WHERE wu.user_id = auth.uid() AND (wu.role = level::text OR level IS NULL) $$;
