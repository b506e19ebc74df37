"""Bodies of trigger functions that keep a row's tenant, or a reference within it, and of those that only look so."""

R = "raise exception 'no';"
SAME = "new.tenant_id is not distinct from old.tenant_id"
CHANGED = "new.tenant_id is distinct from old.tenant_id"
FREEZE = f"if {CHANGED} then {R} end if;"

NOW, WAS = "to_jsonb(new)", "to_jsonb(old)"

KEEPING = (
    f"begin if {NOW} -> 'tenant_id' is distinct from {WAS} -> 'tenant_id' then {R} end if; return new; end",
    f"begin if {NOW} -> 'tenant_id' <> {WAS} -> 'tenant_id' then {R} end if; return new; end",
    f"declare n int; begin perform 1; get diagnostics n = row_count; {FREEZE} return new; end",
    f"begin {FREEZE} return new; end",
    f"begin if new.tenant_id = old.tenant_id then return new; end if; {R} end",
    f"begin if (new.tenant_id) is distinct from (old.tenant_id) then {R} end if; return new; end",
    f"begin if tg_op = 'UPDATE' then if {CHANGED} then {R} end if; end if; return new; end",
    f"begin if not ({SAME}) then {R} end if; return new; end",
    f"begin if not (new.tenant_id = old.tenant_id) then {R} end if; return new; end",
    f"begin if new.tenant_id is null then {R} elsif new.tenant_id <> old.tenant_id then {R} end if; return new; end",
    f"begin assert tg_op = 'UPDATE'; if row(new.tenant_id) is distinct from row(old.tenant_id) then {R} end if;"
    " return new; end",
    f"begin if (new.id, new.tenant_id) is distinct from (old.id, old.tenant_id) then {R} end if; return new; end",
    f"begin if (new.tenant_id = old.tenant_id) is not true then {R} end if; return new; end",
    f"begin if ({SAME}) is false then {R} end if; return new; end",
    f"begin if coalesce(new.tenant_id <> old.tenant_id, true) then {R} end if; return new; end",
    f"begin case when {SAME} then return new; else {R} end case; end",
    f"begin case when {SAME} then return new; end case; end",
    f"begin case tg_op when 'INSERT' then return new; when 'UPDATE' then {FREEZE} end case; return new; end",
    "begin new.tenant_id := old.tenant_id; return new; end",
    f"begin if {CHANGED} then new.tenant_id := old.tenant_id; end if; return new; end",
    f"begin if {CHANGED} then return null; end if; return new; end",
    f"begin if {CHANGED} then return old; end if; return new; end",
    f"begin if {CHANGED} then raise notice 'no'; {R} end if; new.label := btrim(new.label); return new; end",
    f"begin if new.label = 'x' then {FREEZE} else {FREEZE} end if; return new; end",
    f"declare was uuid := old.tenant_id; begin if was <> new.tenant_id then {R} end if; return new; end",
    f"declare same boolean; begin same := {SAME}; if not same then {R} end if; return new; end",
    f"begin if new.tenant_id::text <> old.tenant_id::text then {R} end if; return new; end",
    f"begin if to_jsonb(new) ->> 'tenant_id' <> to_jsonb(old) ->> 'tenant_id' then {R} end if; return new; end",
    f"begin begin perform 1 / 0; exception when division_by_zero then null; end; {FREEZE} return new; end",
    f"begin {FREEZE} return new; exception when others then raise; end",
    f"begin {FREEZE} return new; exception when others then {R} end",
    f"begin if new.id = old.id and {SAME} then return new; end if; if {CHANGED} then {R} end if; return new; end",
    f"begin for i in 1..3 loop perform i; end loop; {FREEZE} return new; end",
    f"begin <<fine>> begin if {SAME} then exit fine; end if; {R} end; return new; end",
    f"begin if tg_op in ('INSERT', 'DELETE') then return coalesce(new, old); end if; {FREEZE} return new; end",
    f"begin if tg_table_name <> 'units' then return new; end if; {FREEZE} return new; end",
    "begin if new.tenant_id is distinct from old.tenant_id then raise insufficient_privilege using message = 'no';"
    " end if; return new; end",
    f"begin if old.tenant_id not in (new.tenant_id) then {R} end if; return new; end",
    f"begin if not (old.tenant_id = any (array[new.tenant_id])) then {R} end if; return new; end",
    "declare was text; now constant varchar := new.tenant_id; begin was := old.tenant_id;"
    f" if was <> now then {R} end if; return new; end",
    f"declare was record; begin was := old; if was.tenant_id <> new.tenant_id then {R} end if; return new; end",
    f"declare was public.units.tenant_id%type := old.tenant_id; begin if was <> new.tenant_id then {R} end if;"
    " return new; end",
    "begin old.label := new.label; new := old; return old; end",
)

MOVING = (
    f"begin if {NOW} -> 'id' is distinct from {WAS} -> 'id' then {R} end if; return new; end",
    f"begin if {NOW} -> 'tenant_id' = {WAS} -> 'tenant_id' then {R} end if; return new; end",
    f"begin if {NOW} -> 'tenant_id' ->> 'x' is not null then return new; end if; return new; end",
    f"begin if {NOW} -> 'tenant_id' ->> 'x' is null then {R} end if; return new; end",
    f"begin {FREEZE} get diagnostics new.tenant_id = row_count; return new; end",
    "begin return new; end",
    f"begin {FREEZE} return new; exception when others then return new; end",
    f"begin begin {FREEZE} exception when others then null; end; return new; end",
    f"begin if current_user = 'service_role' then return new; end if; {FREEZE} return new; end",
    f"begin if current_setting('app.move', true) = 'on' then return new; end if; {FREEZE} return new; end",
    f"begin if new.label = 'x' then return new; end if; {FREEZE} return new; end",
    f"begin if new.label <> old.label and {CHANGED} then {R} end if; return new; end",
    f"begin if new.label <> old.label then {FREEZE} end if; return new; end",
    f"begin if new.development_id is distinct from old.development_id then {R} end if; return new; end",
    f"begin if {SAME} then {R} end if; return new; end",
    f"begin if new.tenant_id is distinct from new.tenant_id then {R} end if; return new; end",
    f"begin if old.tenant_id is null then {R} end if; return new; end",
    f"begin if tg_op = 'INSERT' then {FREEZE} end if; return new; end",
    f"begin if tg_op = 'DELETE' then return old; elsif tg_op = 'INSERT' then {FREEZE} end if; return new; end",
    f"begin {FREEZE} new.tenant_id := (new.label)::uuid; return new; end",
    f"begin {FREEZE} select development_id into new.tenant_id; return new; end",
    f"begin {FREEZE} new := jsonb_populate_record(new, '{{}}'); return new; end",
    f"declare r record; begin {FREEZE} r := new; r.tenant_id := new.id; return r; end",
    f"begin if {CHANGED} then raise notice 'no'; end if; return new; end",
    f"begin if {CHANGED} then raise warning 'no'; end if; return new; end",
    f"begin assert {SAME}; return new; end",
    "begin old.tenant_id := new.tenant_id; return old; end",
    "begin old := new; return old; end",
    f'declare was "char" := old.tenant_id; now "char" := new.tenant_id; begin if was <> now then {R} end if;'
    " return new; end",
    'declare was "char"; begin declare now "char"; begin was := old.tenant_id; now := new.tenant_id;'
    f" if was <> now then {R} end if; end; return new; end",
    f"declare was app.short := old.tenant_id; now app.short := new.tenant_id; begin if was <> now then {R} end if;"
    " return new; end",
    f"declare a public.messages; b public.messages; begin a := old; b := new; if a.tenant_id <> b.tenant_id then {R}"
    " end if; return new; end",
    f"begin if new.tenant_id::app.varchar <> old.tenant_id::app.varchar then {R} end if; return new; end",
    f"begin if new.tenant_id::text::varchar(8) <> old.tenant_id::text::varchar(8) then {R} end if; return new; end",
    f"begin for i in 1..0 loop {FREEZE} end loop; return new; end",
    f"begin while new.label = 'x' loop {FREEZE} end loop; return new; end",
    f"begin loop exit when new.label = 'x'; {FREEZE} end loop; return new; end",
    f"declare old_id uuid := old.tenant_id; begin old_id := new.tenant_id;"
    f" if old_id <> new.tenant_id then {R} end if; return new; end",
    f"declare same boolean := {SAME}; begin same := true; if not same then {R} end if; return new; end",
    "begin perform private.check_same(new.tenant_id, old.tenant_id); return new; end",
    "begin execute 'select 1'; return new; end",
    f"begin if tg_argv[0] = 'strict' then {FREEZE} end if; return new; end",
    f"begin if session_user <> 'postgres' and {CHANGED} then {R} end if; return new; end",
    f"declare new public.units; begin {FREEZE} return new; end",
    "declare was alias for new; begin if was.tenant_id is distinct from old.tenant_id then was.label := 'x'; end if;"
    " return new; end",
    f"begin old := new; {FREEZE} return new; end",
    f"begin old.tenant_id := new.tenant_id; {FREEZE} return new; end",
    f"begin if left(new.tenant_id::text, 8) <> left(old.tenant_id::text, 8) then {R} end if; return new; end",
    f"begin if upper(new.tenant_id::text) <> old.tenant_id::text and false then {R} end if; return new; end",
    f"begin if (new.id, new.tenant_id) = (old.id, old.tenant_id) then {R} end if; return new; end",
    f"begin <<skip>> begin if new.label = 'x' then exit skip; end if; {FREEZE} end; return new; end",
    f"begin case new.label when 'x' then {FREEZE} else null; end case; return new; end",
    f"begin case when {CHANGED} then null; else {R} end case; return new; end",
    f"declare n int; begin get diagnostics n = row_count; if n > 0 then {FREEZE} end if; return new; end",
    f"declare was uuid; begin select u.tenant_id into was from public.units u where u.id = new.id;"
    f" if was <> new.tenant_id then {R} end if; return new; end",
)
"""Each lets some change of tenant_id through, now or by a setting, or cannot be shown not to."""


def _aligned(checks: str, declared: str = "declare t uuid;") -> str:
    return f"{declared} begin {checks} return new; end"


UNIT = "select u.tenant_id into t from public.units u where u.id = new.subject_id"
MESSAGE = "select m.tenant_id into t from public.messages m where m.id = new.subject_id"
LOOK = f"if new.subject_type = 'unit' then {UNIT}; else {MESSAGE}; end if;"
COMPARE = f"if t is distinct from new.tenant_id then {R} end if;"
OWN_UNIT = "select 1 from public.units where id = new.subject_id and tenant_id = new.tenant_id"
OWN_MESSAGE = "select 1 from public.messages where id = new.subject_id and tenant_id = new.tenant_id"
UNCHANGED = (
    "tg_op = 'UPDATE' and new.subject_id = old.subject_id and new.subject_type = old.subject_type"
    " and new.tenant_id = old.tenant_id"
)

ALIGNING = (
    _aligned(
        f"{LOOK.replace('u.id = new.subject_id', 'u.id::text = new.subject_id::text')} {COMPARE}",
        "<<main>> declare t public.units.tenant_id%type;",
    ),
    _aligned(f"{LOOK} {COMPARE}"),
    _aligned(f"{LOOK} if t is null or t <> new.tenant_id then {R} end if;"),
    _aligned(f"{LOOK} if not found or t <> new.tenant_id then {R} end if;"),
    _aligned(f"{LOOK} if (t = new.tenant_id) is not true then {R} end if;"),
    _aligned(f"{LOOK} if t = new.tenant_id then return new; end if; {R}"),
    _aligned(f"case new.subject_type when 'unit' then {UNIT}; when 'message' then {MESSAGE}; end case; {COMPARE}"),
    _aligned(f"case when new.subject_type = 'unit' then {UNIT}; else {MESSAGE}; end case; {COMPARE}"),
    _aligned(
        f"if new.subject_type = 'unit' then {UNIT}; {COMPARE} end if;"
        f" if new.subject_type = 'message' then {MESSAGE}; {COMPARE} end if;"
    ),
    _aligned(
        f"if new.subject_type = 'unit' then {UNIT}; elsif new.subject_type = 'message' then {MESSAGE};"
        f" else {R} end if; {COMPARE}"
    ),
    _aligned(
        f"if new.subject_type = 'unit' and not exists ({OWN_UNIT}) then {R} end if;"
        f" if new.subject_type = 'message' and not exists ({OWN_MESSAGE}) then {R} end if;",
        "",
    ),
    _aligned(
        f"if new.subject_type = 'unit' then perform {OWN_UNIT[7:]}; else perform {OWN_MESSAGE[7:]}; end if;"
        f" if not found then {R} end if;",
        "",
    ),
    _aligned(
        "t := case new.subject_type when 'unit' then (select u.tenant_id from public.units u where u.id ="
        " new.subject_id) else (select m.tenant_id from public.messages m where m.id = new.subject_id) end;"
        f" {COMPARE}"
    ),
    _aligned(f"{LOOK.replace('into t', 'into strict t')} if t <> new.tenant_id then {R} end if;"),
    _aligned(
        "select s.tenant_id into t from (select 'unit' as k, id, tenant_id from public.units union all"
        " select 'message', id, tenant_id from public.messages) s where s.k = new.subject_type and"
        f" s.id = new.subject_id; {COMPARE}"
    ),
    _aligned(
        f"if new.subject_type = 'unit' then {OWN_UNIT.replace('select 1', 'select count(*) into n')};"
        f" else {OWN_MESSAGE.replace('select 1', 'select count(*) into n')}; end if;"
        f" if n <> 1 then {R} end if;",
        "declare n int;",
    ),
    _aligned(f"if {UNCHANGED} then return new; end if; {LOOK} {COMPARE}"),
    _aligned(f"if new.subject_id is null then return new; end if; {LOOK} {COMPARE}"),
    _aligned(f"{LOOK} if t is distinct from new.tenant_id then return null; end if;"),
    _aligned(f"begin {LOOK.replace('into t', 'into strict t')} exception when no_data_found then {R} end; {COMPARE}"),
    _aligned(
        f"{LOOK.replace('u.tenant_id into t', '* into r').replace('m.tenant_id into t', '* into r')}"
        f" if r.tenant_id is distinct from new.tenant_id then {R} end if;",
        "declare r record;",
    ),
    _aligned(
        "if new.subject_type = 'unit' and new.tenant_id not in (select tenant_id from public.units where id ="
        f" new.subject_id) is not false then null; end if; {LOOK} {COMPARE}"
    ),
    _aligned(f"{LOOK} if coalesce(t <> new.tenant_id, true) then {R} end if;"),
    _aligned(f"{LOOK.replace('new.subject_id', 'new.subject_id for share')} {COMPARE}"),
    _aligned(f"update public.developments set budget = 0 where tenant_id = new.tenant_id; {LOOK} {COMPARE}"),
)

MISALIGNED = (
    "begin return new; end",
    "begin old := new; return old; end",
    _aligned(
        f"{LOOK} {COMPARE}", "#variable_conflict use_variable <<u>> declare t uuid; tenant_id uuid := new.tenant_id;"
    ),
    _aligned(f"{LOOK.replace('u.id =', 'u.id::char(1) =')} {COMPARE}"),
    _aligned(f"{LOOK} b := new.tenant_id; if t is distinct from b then {R} end if;", 'declare t "char"; b "char";'),
    _aligned(f"{LOOK.replace('new.', 'old.')} {COMPARE}"),
    _aligned(
        f"{LOOK.replace('unit', 'message', 1)} if t is not null and t is distinct from new.tenant_id then {R} end if;"
    ),
    _aligned(
        f"select tenant_id into t from public.units where tenant_id = new.tenant_id limit 1; perform 1 from"
        f" public.messages; {COMPARE}"
    ),
    _aligned(f"{LOOK} if t <> new.tenant_id then {R} end if;"),
    _aligned(f"{LOOK} if t is not distinct from new.tenant_id then {R} end if;"),
    _aligned(f"{LOOK.replace('unit', 'message', 1)} {COMPARE}").replace("message' then", "other' then"),
    _aligned(f"if new.subject_type = 'unit' then {UNIT}; {COMPARE} end if; perform 1 from public.messages;"),
    _aligned(f"{LOOK.replace('u.id', 'u.development_id')} {COMPARE}"),
    _aligned(f"{LOOK.replace('new.subject_id', 'new.id')} {COMPARE}"),
    _aligned(f"{LOOK.replace('u.tenant_id', 'u.id')} {COMPARE}"),
    _aligned(f"{LOOK} t := new.tenant_id; {COMPARE}"),
    _aligned(f"{LOOK} {COMPARE} new.subject_id := new.id;"),
    _aligned(f"{LOOK} {COMPARE} new.subject_type := 'message';"),
    _aligned(f"begin {LOOK} {COMPARE} exception when others then null; end;"),
    _aligned(
        f"begin {LOOK.replace('into t', 'into strict t')} exception when no_data_found then return new; end; {COMPARE}"
    ),
    _aligned(f"if tg_op = 'INSERT' then {LOOK} {COMPARE} end if;"),
    _aligned(f"if tg_op = 'UPDATE' then {LOOK} {COMPARE} end if;"),
    _aligned(f"if tg_op = 'UPDATE' and new.subject_id = old.subject_id then return new; end if; {LOOK} {COMPARE}"),
    _aligned(f"if tg_op = 'UPDATE' and new.path = old.path then return new; end if; {LOOK} {COMPARE}"),
    _aligned(f"if old.subject_id <> new.subject_id then {LOOK} {COMPARE} end if;"),
    _aligned(f"if current_setting('app.skip', true) = 'on' then return new; end if; {LOOK} {COMPARE}"),
    _aligned(f"if new.path = '' then return new; end if; {LOOK} {COMPARE}"),
    _aligned(f"{LOOK} if t is distinct from new.tenant_id and t is distinct from old.tenant_id then {R} end if;"),
    _aligned(f"{LOOK} if t is distinct from new.tenant_id then raise warning 'no'; end if;"),
    _aligned(f"{LOOK} assert t = new.tenant_id;"),
    _aligned(
        f"if exists (select 1 from public.units where id = new.subject_id) or exists (select 1 from"
        f" public.messages where id = new.subject_id) then return new; end if; {R}",
        "",
    ),
    _aligned(f"if not exists ({OWN_UNIT.replace('and', 'or')}) and not exists ({OWN_MESSAGE}) then {R} end if;", ""),
    _aligned(f"perform {OWN_UNIT[7:]}; perform {OWN_MESSAGE[7:]}; perform 1; if not found then {R} end if;", ""),
    _aligned(
        f"perform {OWN_UNIT[7:]}; select 1 into n; if not found then {R} end if; perform {OWN_MESSAGE[7:]};",
        "declare n int;",
    ),
    _aligned(
        f"if new.subject_type = 'unit' then {OWN_UNIT.replace('select 1', 'select count(*) into n')};"
        f" else {OWN_MESSAGE.replace('select 1', 'select count(*) into n')}; end if;"
        f" if n > 1 then {R} end if;",
        "declare n int;",
    ),
    _aligned(
        "execute format('select tenant_id from public.%I where id = $1', new.subject_type || 's') into t using"
        f" new.subject_id; {COMPARE} perform 1 from public.units, public.messages;"
    ),
    _aligned(
        f"t := private.owner_of(new.subject_type, new.subject_id); {COMPARE} perform 1 from public.units;"
        " perform 1 from public.messages;"
    ),
    _aligned(
        f"for t in {UNIT.replace(' into t', '')} loop {COMPARE} end loop; for t in"
        f" {MESSAGE.replace(' into t', '')} loop {COMPARE} end loop;"
    ),
    _aligned(f"{LOOK.replace('new.subject_id', 'new.subject_id offset 1')} if t <> new.tenant_id then {R} end if;"),
    _aligned(f"{LOOK.replace('public.units u where', 'public.units u, public.messages x where')} {COMPARE}"),
    _aligned(f"{LOOK} declare t uuid := new.tenant_id; begin {COMPARE} end;"),
    _aligned(f"{LOOK.replace('u.id = new.subject_id', 'u.id = u.id')} {COMPARE}"),
    _aligned(f"{LOOK.replace('public.units', 'units')} {COMPARE}"),
    _aligned(f"{LOOK} {COMPARE.replace('new.tenant_id', 'old.tenant_id')}"),
    _aligned(f"update public.units set tenant_id = new.tenant_id where id = new.subject_id; {LOOK} {COMPARE}"),
    _aligned(f"execute 'update public.units set tenant_id = $1' using new.tenant_id; {LOOK} {COMPARE}"),
    _aligned(
        "with taken as (update public.units set tenant_id = new.tenant_id where id = new.subject_id returning 1)"
        f" select 1 into n from taken; {LOOK} {COMPARE}",
        "declare t uuid; n int;",
    ),
    _aligned(
        f"for i in 1..2 loop {LOOK} {COMPARE} update public.units set tenant_id = new.tenant_id where"
        " id = new.subject_id; end loop;"
    ),
    _aligned(
        f"begin update public.units set tenant_id = new.tenant_id where id = new.subject_id; perform 1 / 0;"
        f" exception when others then {LOOK} {COMPARE} end;"
    ),
)
"""Each leaves some reference to another tenant's row in, or cannot be shown not to."""
