"""Bodies of definer triggers on public.units that stay within their row's tenant, and of those that do not."""

U, D, M = "public.units", "public.developments", "public.messages"


def _does(statement: str, declared: str = "") -> str:
    return f"{declared} begin {statement}; return new; end"


INTO = f"insert into {D} (tenant_id)"
SOURCES = (
    ("r := coalesce(new, old)", "r.tenant_id"),
    ("if tg_op = 'DELETE' then r := old; else r := new; end if", "r.tenant_id"),
    ("a := case when tg_op = 'DELETE' then old.tenant_id else new.tenant_id end", "a"),
    ("r := new", "coalesce(new.tenant_id, old.tenant_id)"),
)
FALSE_SOURCES = (
    ("r := jsonb_populate_record(new, '{}')", "r.tenant_id"),
    ("r := new; r.tenant_id := new.id", "r.tenant_id"),
    ("if tg_op = 'DELETE' then r := null; else select id as tenant_id into r from public.units; end if", "r.tenant_id"),
    ("a := case when tg_op = 'DELETE' then old.tenant_id else new.id end", "a"),
    ("r := new", "coalesce(new.id, old.tenant_id)"),
    ("r := new; new.tenant_id := new.id", "new.tenant_id"),
)

STAYING = (
    _does(f"perform 1 from {U} u join {M} m using (tenant_id) where u.tenant_id = new.tenant_id"),
    _does(f"delete from {M} where tenant_id = any (array[new.tenant_id])"),
    _does(f"delete from {M} where tenant_id::text = new.tenant_id::text"),
    _does(f"update {D} d set budget = 0 where d.id = new.development_id"),
    _does(f"update {D} set budget = 0 where tenant_id = new.tenant_id and name = new.label"),
    _does(f"update {U} set label = 'x' where id = new.id"),
    _does(f"delete from {M} where unit_id = new.id"),
    _does(f"delete from {M} m using {U} u where u.id = new.id and m.unit_id = u.id"),
    _does(f"perform 1 from {U} u join {D} d on d.tenant_id = u.tenant_id where u.tenant_id = new.tenant_id"),
    _does(f"perform 1 from {U} u left join {D} d on d.tenant_id = u.tenant_id where u.id = old.id"),
    _does(
        f"if exists (select 1 from {D} d where d.tenant_id = new.tenant_id and d.name = new.label) then"
        " raise exception 'taken'; end if"
    ),
    _does(f"perform count(*) from {M} m where m.tenant_id = t", "declare t uuid := new.tenant_id;"),
    _does(
        f"select d.tenant_id into t from {D} d where d.id = new.development_id; delete from {M} where tenant_id = t",
        "declare t uuid;",
    ),
    _does(
        f"select * into d from {D} where id = new.development_id; delete from {M} where tenant_id = d.tenant_id",
        "declare d record;",
    ),
    _does(
        f"perform 1 from {U} where tenant_id = coalesce(n ->> 'tenant_id', o ->> 'tenant_id')::uuid",
        "declare n jsonb := to_jsonb(new); o jsonb := to_jsonb(old);",
    ),
    _does(
        f"with mine as (select * from {U} where tenant_id = new.tenant_id) select count(*) into n from mine",
        "declare n int;",
    ),
    _does(
        f"perform 1 from (select tenant_id, label from {U} union all select tenant_id, name from {D}) s"
        " where s.tenant_id = new.tenant_id and s.label = new.label"
    ),
    _does("perform 1 from public.memberships where user_id = auth.uid()"),
    _does("perform 1 where private.is_member(new.tenant_id)"),
    _does("perform private.tidy(new.tenant_id)"),
    _does(f"perform 1 from {D} where tenant_id = private.current_tenant_id()"),
    _does(f"perform 1 from {D} where (tenant_id, name) = (new.tenant_id, new.label)"),
    _does(
        f"for m in select * from {M} where unit_id = new.id loop update {M} set body = 'x' where tenant_id ="
        " m.tenant_id; end loop",
        "declare m record;",
    ),
    _does(
        f"insert into {D} (tenant_id, name) values (new.tenant_id, new.label) on conflict (tenant_id, name)"
        " do update set budget = 0"
    ),
    _does(f"execute 'update {D} set budget = 0 where false and tenant_id = private.current_tenant_id()'"),
    _does("perform 1 from public.tenants where id = new.tenant_id"),
    _does("new.label := btrim(new.label)"),
    _does(f"perform 1 from {D} where tenant_id = (select u.tenant_id from {U} u where u.id = new.id)"),
    *(f"declare r record; a uuid; begin {how}; {INTO} values ({what}); return r; end" for how, what in SOURCES),
    _does(f"{INTO[:-1]}) select m.tenant_id, 'x' from public.memberships m where m.tenant_id = new.tenant_id"),
    _does(f"select * into u from {U} where id = new.id; {INTO} values (u.tenant_id)", "declare u record;"),
    _does(f"update {D} set budget = 0 where id = coalesce(new.development_id, old.development_id)"),
    _does(f"update {D} set budget = 0 where id in (new.development_id, old.development_id)"),
    _does(f"update {D} set budget = 0 where id = any (array[new.development_id, old.development_id])"),
    _does(
        f"update {D} set budget = 0 where id = case when tg_op = 'DELETE' then old.development_id else"
        " new.development_id end"
    ),
    _does(f"delete from {M} where unit_id in (select u.id from {U} u where u.development_id = new.development_id)"),
    _does(f"update {D} set budget = 0 where id = (select u.development_id from {U} u where u.id = new.id)"),
    _does(
        f"select u.development_id into a from {U} u where u.id = new.id; update {D} set budget = 0 where id = a",
        "declare a uuid;",
    ),
    _does(f"perform count(*) from {U} u where u.development_id = new.development_id"),
    _does("perform private.wipe_of(what => new.label, of => new.tenant_id)"),
    _does(f"execute 'delete from {D} where tenant_id = $1' using new.tenant_id"),
    _does(f"execute 'update {D} set budget = 0 where id = $2' using 1, new.development_id"),
    _does(
        f"execute format('select %I from {D} where tenant_id = $1 and name = %L', 'name', 'x') into a"
        " using new.tenant_id",
        "declare a text;",
    ),
    _does(
        f"delete from {D} where tenant_id = new.tenant_id; get diagnostics n = row_count; {INTO} values"
        " (new.tenant_id)",
        "declare n int;",
    ),
    _does(f"{INTO} values (new.tenant_id) on conflict on constraint developments_name_key do update set budget = 0"),
)

LEAVING = (
    _does(
        f"select x.n into new.label from (select tenant_id, max(body) over () as n from {M}) x"
        " where x.tenant_id = new.tenant_id"
    ),
    _does(f"perform 1 from {U} u join {M} m using (id) where u.tenant_id = new.tenant_id"),
    _does(f"perform 1 from {U} u left join {M} m using (tenant_id) where m.tenant_id = new.tenant_id"),
    _does(f"delete from {M} m where m.tenant_id = any (array[new.tenant_id, m.tenant_id])"),
    _does(f"delete from {M} where tenant_id::text::varchar(1) = new.tenant_id::text::varchar(1)"),
    _does(f"delete from {M} where tenant_id::text::name = new.tenant_id::text::name"),
    _does(f"delete from {M} where tenant_id operator(private.=) new.tenant_id"),
    _does("perform word from ts_stat('select to_tsvector(body) from public.messages')"),
    _does("perform database_to_xml(true, true, '')"),
    _does(f"delete from {M} where tenant_id::text = n ->> 'tenant_id'", "declare n jsonb := private.to_jsonb(new);"),
    _does("perform private.tidy(new.id)"),
    _does(f"update {D} set tenant_id = new.tenant_id where id = new.development_id"),
    _does(f"perform 1 from {U} tablesample bernoulli (100)"),
    _does(
        f"with units as (select (new.label)::uuid as tenant_id) select tenant_id into t from units;"
        f" delete from {M} where tenant_id = t",
        "declare t uuid;",
    ),
    _does(f"update {D} set name = new.label where id <> new.development_id"),
    _does(f"delete from {U} where label = new.label and id <> new.id"),
    _does(f"select budget into new.valid from {D} where name = new.label limit 1"),
    _does(f"if exists (select 1 from {D} d where d.name = new.label) then raise exception 'taken'; end if"),
    _does(f"update {U} set label = new.label"),
    _does(f"perform 1 from {D} where tenant_id = new.tenant_id or name = new.label"),
    _does(f"perform 1 from {D} where not (tenant_id = new.tenant_id)"),
    _does(f"perform 1 from {D} where tenant_id <> new.tenant_id"),
    _does(f"perform 1 from {D} where tenant_id = new.id"),
    _does(f"perform 1 from {D} where tenant_id = (new.label)::uuid"),
    _does(f"perform 1 from {D} where tenant_id = current_setting('app.t')::uuid"),
    _does(f"perform 1 from {D} where id = new.id"),
    _does(f"update {M} set body = 'x' where id = new.id"),
    _does(f"perform 1 from {U} u join {D} d on d.tenant_id = u.tenant_id"),
    _does(f"perform 1 from {U} u left join {D} d on d.tenant_id = new.tenant_id and u.tenant_id = new.tenant_id"),
    _does(f"perform 1 from {U} u full join {D} d on d.tenant_id = u.tenant_id and u.id = new.id"),
    _does(f"perform 1 from {U} u, {D} d where u.id = new.id and d.name = u.label"),
    _does(
        f"t := (new.label)::uuid; perform count(*) from {M} m where m.tenant_id = t", "declare t uuid := new.tenant_id;"
    ),
    _does(
        f"select d.id into t from {D} d where d.id = new.development_id; delete from {M} where tenant_id = t",
        "declare t uuid;",
    ),
    _does(
        f"select t.id into t from public.tenants t where t.slug = new.label; delete from {M} where tenant_id = t",
        "declare t uuid;",
    ),
    _does(
        f"foreach t in array array[new.id] loop delete from {M} where tenant_id = t; end loop",
        "declare t uuid := new.tenant_id;",
    ),
    _does(f"new.tenant_id := (new.label)::uuid; delete from {M} where tenant_id = new.tenant_id"),
    _does(f"new := jsonb_populate_record(new, '{{}}'); delete from {M} where tenant_id = new.tenant_id"),
    _does(
        f"with all_ as (select * from {U}) select count(*) into n from all_ where tenant_id = new.tenant_id",
        "declare n int;",
    ),
    _does(
        f"with gone as (delete from {U} where label = new.label returning 1) select count(*) into n from gone",
        "declare n int;",
    ),
    _does(
        f"with made as (insert into {D} (tenant_id, name) values (new.id, 'x') returning 1) select count(*) into n"
        " from made",
        "declare n int;",
    ),
    _does(
        f"perform 1 from (select tenant_id from {U} union all select new.tenant_id from {D}) s"
        " where s.tenant_id = new.tenant_id"
    ),
    _does(f"perform 1 from (select new.tenant_id as tenant_id, label from {U}) s where s.tenant_id = new.tenant_id"),
    _does(f"perform 1 from (select tenant_id from {U} limit 1) s where s.tenant_id = new.tenant_id"),
    _does(f"perform 1 from {D} d, jsonb_to_record('{{}}') as x(tenant_id uuid) where d.tenant_id = x.tenant_id"),
    _does("perform private.purge(new.label)"),
    _does("perform private.wipe(new.label)"),
    _does("perform 1 from private.purge(new.label)"),
    _does("execute 'delete from public.units where label = $1' using new.label"),
    _does("execute format('delete from public.%I where tenant_id = $1', new.label) using new.tenant_id"),
    _does("execute new.label"),
    _does("perform query_to_xml('select * from public.units', true, true, '')"),
    _does(f"update {U} set tenant_id = new.development_id where id = new.id"),
    _does(
        f"insert into {D} (id, tenant_id, name) values (new.id, new.tenant_id, 'x') on conflict (id)"
        " do update set name = new.label"
    ),
    _does(
        f"insert into {D} (id, tenant_id, name) values (new.id, new.tenant_id, 'x') on conflict (tenant_id, name)"
        " do update set tenant_id = new.id"
    ),
    _does(f"merge into {D} d using {U} u on d.name = u.label when matched then update set name = 'x'"),
    _does("truncate public.units"),
    _does("update public.tenants set name = new.label"),
    _does("perform 1 from public.memberships where user_id = new.id"),
    _does("perform 1 from public.unit_overview where label = new.label"),
    _does("open c; fetch c into n; close c", f"declare n int; c cursor for select 1 from {U} where label = 'x';"),
    _does("null", f"declare n int := (select count(*) from {U});"),
    _does(f"for m in select * from {M} loop perform m.id; end loop", "declare m record;"),
    f"begin return new; exception when others then delete from {U} where label = new.label; return new; end",
    f"begin delete from {U} where label = new.label; return null; exception when others then return null; end",
    _does(f"raise notice '%', (select min(label) from {U})"),
    *(f"declare r record; a uuid; begin {how}; {INTO} values ({what}); return r; end" for how, what in FALSE_SOURCES),
    _does(f"{INTO[:-1]}) select m.tenant_id, 'x' from public.memberships m where m.user_id = new.id"),
    _does(
        f"select * into u from {U} where id = new.id; u := jsonb_populate_record(u, '{{}}'); delete from {M} where"
        " tenant_id = u.tenant_id",
        "declare u record;",
    ),
    _does(
        f"select * into u from {U} where id = new.id; u.tenant_id := new.id; delete from {M} where"
        " tenant_id = u.tenant_id",
        "declare u record;",
    ),
    _does(f"update {D} set budget = 0 where id = coalesce((new.label)::uuid, new.development_id)"),
    _does(f"update {D} set budget = 0 where id in (new.development_id, new.id)"),
    _does(f"update {D} set budget = 0 where id = any (array[new.development_id, new.id])"),
    _does(f"update {D} set budget = 0 where id = case when tg_op = 'DELETE' then old.id else new.development_id end"),
    _does(f"delete from {M} where unit_id in (select u.id from {U} u where u.label = new.label)"),
    _does(f"delete from {M} where unit_id in (select u.development_id from {U} u where u.id = new.id)"),
    _does(f"delete from {M} where unit_id in (select t.id from public.tenants t where t.id = new.tenant_id)"),
    _does(f"update {D} set budget = 0 where id = (select u.id from {U} u where u.id = new.id)"),
    _does(
        f"select u.development_id into a from {U} u where u.id = new.id; a := new.id; update {D} set budget = 0"
        " where id = a",
        "declare a uuid;",
    ),
    _does("perform private.wipe_of(of => new.id, what => new.tenant_id::text)"),
    _does(f"a.tenant_id := a.id; {INTO} values (new.tenant_id)", "declare a alias for new;"),
    _does("insert into public.tenants values (new.id, 'x', 'x') on conflict (id) do update set name = new.label"),
    _does("perform private.set_aside(new.id, new.tenant_id)"),
    _does("perform private.uses(new.tenant_id, new.id)"),
    _does(f"execute 'delete from {D} where tenant_id = $2' using new.tenant_id, new.id"),
    _does(f"execute 'update {D} set budget = 0 where id = $1' using new.id"),
    _does(
        f"execute format('select name from {D} where %I = $1', 'tenant_id') into a using new.tenant_id",
        "declare a text;",
    ),
    _does(f"execute format('update {D} set %I = $1 where tenant_id = $2', 'tenant_id') using new.id, new.tenant_id"),
    _does("execute format('select %I()', new.label)"),
    _does(f"execute format('select %L', (select min(label) from {U})) into a", "declare a text;"),
    _does(f"get diagnostics new.tenant_id = row_count; delete from {M} where tenant_id = new.tenant_id"),
    _does(f"{INTO} values (new.tenant_id) on conflict on constraint developments_pkey do update set budget = 0"),
    _does(f"case (select count(*) from {U}) when 1 then null; else null; end case"),
)

BEFORE = {
    _does(f"delete from {U} where id = new.id"): False,
    _does(f"delete from {M} where unit_id = new.id"): False,
    _does(f"update {U} set label = 'x' where id = old.id"): True,
    _does(f"select d.name into new.label from {D} d where d.id = new.development_id"): True,
    _does(f"perform 1 from {U} where tenant_id = new.tenant_id and label = new.label"): True,
    _does(f"perform count(*) from {U} u where u.development_id = new.development_id"): False,
    _does(f"perform count(*) from {U} u where u.development_id = old.development_id"): True,
}
"""Before the write, NEW may have the key of somebody else's row. Whether each is fine."""
