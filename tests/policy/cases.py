"""Policies that bind a row to the caller's tenant, and ones that do not. {t} is the table: tenant_id uuid NOT NULL,
id, project_id (NOT NULL, with a composite key to projects), user_id, shared_tenant (nullable), label, archived, tags."""

PROVEN = """
tenant_id = app.tenant()
tenant_id = (SELECT app.tenant())
app.tenant() = tenant_id
(SELECT app.tenant()) = tenant_id
tenant_id = app.require_tenant()
tenant_id = (SELECT app.require_tenant() AS t)
tenant_id = (auth.jwt() -> 'app_metadata' ->> 'tenant_id')::uuid
tenant_id = ((SELECT auth.jwt()) -> 'app_metadata' ->> 'tenant_id')::uuid
tenant_id = ((auth.jwt() #>> '{app_metadata,tenant_id}'))::uuid
tenant_id::text = (auth.jwt() -> 'app_metadata' ->> 'tenant_id')
tenant_id::text = coalesce(auth.jwt() -> 'app_metadata' ->> 'tenant_id', '')
tenant_id = nullif(auth.jwt() -> 'app_metadata' ->> 'tenant_id', '')::uuid
tenant_id = (nullif(current_setting('request.jwt.claims', true), '')::json -> 'app_metadata' ->> 'tenant_id')::uuid
tenant_id = jsonb_extract_path_text(auth.jwt(), 'app_metadata', 'tenant_id')::uuid
tenant_id = app.tenant() AND NOT archived
NOT archived AND (tenant_id = app.tenant())
(tenant_id = app.tenant() AND archived) OR (tenant_id = app.tenant() AND label = 'x')
tenant_id = app.tenant() AND (archived OR label IS NULL OR true)
NOT (tenant_id <> app.tenant())
NOT (tenant_id IS DISTINCT FROM app.tenant())
tenant_id IS NOT DISTINCT FROM app.tenant()
(tenant_id = app.tenant()) IS TRUE
(tenant_id <> app.tenant()) IS FALSE
coalesce(tenant_id = app.tenant(), false)
tenant_id IN (app.tenant())
tenant_id = ANY (ARRAY[app.tenant()])
tenant_id IN (SELECT app.tenant())
tenant_id = ANY (ARRAY(SELECT app.tenant()))
app.tenant() IS NOT NULL AND tenant_id = app.tenant()
CASE WHEN app.tenant() IS NULL THEN false ELSE tenant_id = app.tenant() END
CASE WHEN archived THEN false WHEN tenant_id = app.tenant() THEN true ELSE false END
(tenant_id, archived) = (app.tenant(), false)
EXISTS (SELECT 1 FROM members m WHERE m.tenant_id = {t}.tenant_id AND m.user_id = auth.uid())
EXISTS (SELECT 1 FROM members m WHERE m.user_id = (SELECT auth.uid()) AND {t}.tenant_id = m.tenant_id AND m.role = 'admin')
tenant_id IN (SELECT m.tenant_id FROM members m WHERE m.user_id = auth.uid())
tenant_id IN (SELECT members.tenant_id FROM members WHERE members.user_id = auth.uid() AND members.role IN ('a', 'b'))
tenant_id = ANY (SELECT m.tenant_id FROM members m WHERE m.user_id = auth.uid())
tenant_id = ANY (ARRAY(SELECT m.tenant_id FROM members m WHERE m.user_id = auth.uid()))
tenant_id = (SELECT m.tenant_id FROM members m WHERE m.user_id = auth.uid() LIMIT 1)
auth.uid() IN (SELECT m.user_id FROM members m WHERE m.tenant_id = {t}.tenant_id)
(tenant_id, auth.uid()) IN (SELECT m.tenant_id, m.user_id FROM members m)
(SELECT count(*) FROM members m WHERE m.tenant_id = {t}.tenant_id AND m.user_id = auth.uid()) > 0
0 < (SELECT count(*) FROM members m WHERE m.tenant_id = {t}.tenant_id AND m.user_id = auth.uid())
EXISTS (SELECT 1 FROM members m JOIN tenants x ON x.id = m.tenant_id WHERE x.id = {t}.tenant_id AND m.user_id = auth.uid())
EXISTS (SELECT 1 FROM tenants x JOIN members m ON m.tenant_id = x.id AND m.user_id = auth.uid() WHERE x.id = {t}.tenant_id)
EXISTS (WITH mine AS (SELECT m.tenant_id FROM members m WHERE m.user_id = auth.uid()) SELECT 1 FROM mine WHERE mine.tenant_id = {t}.tenant_id)
tenant_id IN (SELECT m.tenant_id FROM members m WHERE m.user_id = auth.uid() UNION SELECT app.tenant())
app.is_member(tenant_id)
(SELECT app.is_member(tenant_id))
app.is_member(tenant_id) AND app.is_admin()
app.is_member_plpgsql(tenant_id)
app.is_member_found(tenant_id)
app.strictly(tenant_id)
app.same(tenant_id, app.tenant())
tenant_id IN (SELECT app.my_tenants())
tenant_id = ANY (SELECT app.my_tenants() AS my_tenants)
tenant_id IN (SELECT x FROM app.my_tenants() x)
app.has_level(tenant_id)
app.has_level(tenant_id) = true
app.has_level(tenant_id, 'owner') = true AND user_id <> (SELECT p.owner_id FROM projects p WHERE p.id = {t}.project_id)
app.has_level(tenant_id, 'owner'::app.level) IS TRUE
tenant_id IN (SELECT app.tenants_with())
tenant_id IN (SELECT app.tenants_with('owner'::app.level) AS x)
true = app.is_member(tenant_id)
app.is_member(tenant_id) <> false
tenant_id = ANY (app.my_tenant_array())
tenant_id = ANY ((SELECT app.my_tenant_array())::uuid[])
project_id IN (SELECT p.id FROM projects p WHERE p.tenant_id = app.tenant())
EXISTS (SELECT 1 FROM projects p WHERE p.id = {t}.project_id AND p.tenant_id = app.tenant())
EXISTS (SELECT 1 FROM projects p WHERE p.id = {t}.project_id AND app.is_member(p.tenant_id))
EXISTS (SELECT 1 FROM projects p JOIN members m ON m.tenant_id = p.tenant_id WHERE p.id = {t}.project_id AND m.user_id = auth.uid())
app.can_see(project_id)
auth.role() = 'service_role' OR tenant_id = app.tenant()
current_user = 'service_role' OR tenant_id = app.tenant()
false
NULL::boolean
tenant_id = NULL
tenant_id = app.tenant() AND now() < '2030-01-01'
""".strip().splitlines()

REFUSED = """
true
1 = 1
NOT false
tenant_id = tenant_id
tenant_id IS NOT NULL
tenant_id IS NULL OR tenant_id = app.tenant()
tenant_id = app.tenant() OR true
tenant_id = app.tenant() OR archived
tenant_id = app.tenant() OR label = 'public'
tenant_id = app.tenant() AND archived OR label IS NOT NULL
tenant_id <> app.tenant()
NOT (tenant_id = app.tenant())
tenant_id IS DISTINCT FROM app.tenant()
(tenant_id = app.tenant()) IS NOT FALSE
(tenant_id = app.tenant()) IS NOT TRUE
(tenant_id = app.tenant()) IS NULL
(tenant_id = app.tenant()) IS UNKNOWN
coalesce(tenant_id = app.tenant(), true)
coalesce(app.is_member(tenant_id), true)
tenant_id = coalesce(app.tenant(), tenant_id)
tenant_id = coalesce(app.tenant(), '00000000-0000-0000-0000-000000000001')
coalesce(app.tenant(), tenant_id) = tenant_id
tenant_id >= app.tenant()
tenant_id::text LIKE app.tenant()::text || '%'
tenant_id::text LIKE '%'
left(tenant_id::text, 4) = left(app.tenant()::text, 4)
md5(label) = md5(app.tenant()::text)
tenant_id = auth.uid()
user_id = auth.uid()
id = app.tenant()
shared_tenant = app.tenant()
tenant_id = shared_tenant
tenant_id = (auth.jwt() ->> 'tenant_id')::uuid
tenant_id = (auth.jwt() -> 'app_metadata' ->> 'tenantid')::uuid
tenant_id = (auth.jwt() -> 'user_metadata' ->> 'tenant_id')::uuid
tenant_id = (auth.jwt() #>> '{user_metadata,tenant_id}')::uuid
tenant_id = app.metadata_tenant()
tenant_id = app.by_setting()
tenant_id = current_setting('app.tenant', true)::uuid
tenant_id = (current_setting('request.headers', true)::json ->> 'x-tenant')::uuid
tenant_id = '00000000-0000-0000-0000-000000000001'
tenant_id IN (app.tenant(), '00000000-0000-0000-0000-000000000001')
tenant_id = ANY (ARRAY[app.tenant(), shared_tenant])
tenant_id NOT IN (app.tenant())
tenant_id <> ALL (ARRAY[app.tenant()])
tenant_id <> ANY (ARRAY[app.tenant()])
tenant_id IN (SELECT tenants.id FROM tenants)
tenant_id IN (SELECT m.tenant_id FROM members m)
tenant_id NOT IN (SELECT m.tenant_id FROM members m WHERE m.user_id = auth.uid())
tenant_id IN (SELECT m.user_id FROM members m WHERE m.user_id = auth.uid())
tenant_id IN (SELECT {t}.tenant_id FROM members m WHERE m.user_id = auth.uid())
EXISTS (SELECT 1 FROM members m WHERE m.user_id = auth.uid())
EXISTS (SELECT 1 FROM members m WHERE m.tenant_id = {t}.tenant_id)
EXISTS (SELECT 1 FROM members m WHERE m.tenant_id = tenant_id AND m.user_id = auth.uid())
EXISTS (SELECT 1 FROM members WHERE tenant_id = tenant_id AND user_id = auth.uid())
EXISTS (SELECT 1 FROM members m WHERE m.tenant_id = {t}.tenant_id OR m.user_id = auth.uid())
EXISTS (SELECT 1 FROM members m WHERE m.tenant_id = {t}.tenant_id AND m.user_id = {t}.user_id)
EXISTS (SELECT 1 FROM members m, members n WHERE m.tenant_id = {t}.tenant_id AND n.user_id = auth.uid())
EXISTS (SELECT 1 FROM members m LEFT JOIN members n ON n.tenant_id = {t}.tenant_id WHERE m.user_id = auth.uid())
EXISTS (SELECT count(*) FROM members m WHERE m.tenant_id = {t}.tenant_id AND m.user_id = auth.uid())
EXISTS (SELECT 1 FROM members m WHERE m.tenant_id = {t}.tenant_id AND m.user_id = auth.uid() HAVING true)
EXISTS (SELECT 1 FROM members m WHERE m.tenant_id = {t}.tenant_id AND m.user_id = auth.uid() GROUP BY GROUPING SETS (()))
NOT EXISTS (SELECT 1 FROM members m WHERE m.tenant_id = {t}.tenant_id AND m.user_id = auth.uid())
(SELECT count(*) FROM members m WHERE m.tenant_id = {t}.tenant_id AND m.user_id = auth.uid()) >= 0
(SELECT count(*) FROM members m WHERE m.tenant_id = {t}.tenant_id AND m.user_id = auth.uid()) = 0
(SELECT count(*) FROM tenants) > 100
tenant_id = (SELECT max(m.tenant_id::text)::uuid FROM members m)
tenant_id IN (SELECT m.tenant_id FROM members m WHERE m.user_id = auth.uid() UNION SELECT tenants.id FROM tenants)
app.any_member(tenant_id)
app.has_level(tenant_id) = false
app.has_level(shared_tenant) = true
app.is_member(tenant_id) <> true
app.is_member(tenant_id) = app.is_admin()
app.captured(tenant_id)
app.or_true(tenant_id)
app.unless_null(tenant_id)
app.is_member(shared_tenant)
app.is_member(app.tenant())
NOT app.is_member(tenant_id)
app.is_admin()
app.is_admin() OR tenant_id = app.tenant()
app.always(tenant_id, app.tenant())
tenant_id OPERATOR(app.=) app.tenant()
app.tenant_of(project_id) = tenant_id
project_id IN (SELECT p.id FROM projects p)
EXISTS (SELECT 1 FROM projects p WHERE p.tenant_id = app.tenant())
EXISTS (SELECT 1 FROM projects p WHERE p.id = {t}.id AND p.tenant_id = app.tenant())
EXISTS (SELECT 1 FROM projects p WHERE p.name = {t}.label AND p.tenant_id = app.tenant())
EXISTS (SELECT 1 FROM projects p WHERE p.id = p.id AND p.tenant_id = app.tenant())
auth.uid() IS NOT NULL
auth.uid() IS NULL OR tenant_id = app.tenant()
auth.role() = 'authenticated'
auth.role() = 'admin' OR tenant_id = app.tenant()
current_user = 'authenticated'
session_user = 'authenticator' OR tenant_id = app.tenant()
now() > '2026-01-01' OR tenant_id = app.tenant()
random() < 0.5
CASE WHEN app.tenant() IS NULL THEN true ELSE tenant_id = app.tenant() END
CASE WHEN archived THEN true ELSE tenant_id = app.tenant() END
CASE tenant_id WHEN app.tenant() THEN false ELSE true END
inet_client_addr() <<= '10.0.0.0/8'
EXISTS (SELECT 1 FROM plans WHERE plans.open)
'x' = ANY (tags)
app.tenant()::text = ANY (tags)
tenant_id = (SELECT app.tenant() WHERE false) OR archived
starts_with(tenant_id::text, app.tenant()::text)
(tenant_id, archived) <> (app.tenant(), false)
tenant_id BETWEEN '00000000-0000-0000-0000-000000000000' AND app.tenant()
tenant_id = (ARRAY[app.tenant(), shared_tenant])[2]
GREATEST(tenant_id, app.tenant()) = tenant_id
""".strip().splitlines()
