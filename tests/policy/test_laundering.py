"""A claim is only as trustworthy as what writes it."""

import pytest

from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.policy import laundered

CASES = {
    "begin new.raw_app_meta_data := new.raw_app_meta_data || new.raw_user_meta_data; return new; end": "claims",
    "begin new.raw_app_meta_data := new.raw_app_meta_data || jsonb_build_object('tenant_id',"
    " new.raw_user_meta_data ->> 'tenant_id'); return new; end": "tenant_id",
    "declare t text; begin t := new.raw_user_meta_data #>> '{org,tenant_id}';"
    " new.raw_app_meta_data := jsonb_set(new.raw_app_meta_data, '{org}', to_jsonb(t)); return new; end": "tenant_id",
    "begin update auth.users set raw_app_meta_data = raw_app_meta_data || new.raw_user_meta_data where id = new.id;"
    " return new; end": "claims",
    "declare meta jsonb; begin select raw_user_meta_data into meta from auth.users where id = (event ->> 'user_id')::uuid;"
    " event := jsonb_set(event, '{claims,tenant_id}', meta -> 'tenant_id'); return event; end": "tenant_id",
    "begin return jsonb_set(event, '{claims,tenant_id}', event -> 'claims' -> 'user_metadata' -> 'tenant_id'); end": (
        "tenant_id"
    ),
    "begin if new.raw_user_meta_data ? 'plan' then new.raw_app_meta_data := jsonb_set(new.raw_app_meta_data, '{plan}',"
    " new.raw_user_meta_data -> 'plan'); end if; return new; end": "",
    "begin insert into public.profiles (id, name) values (new.id, new.raw_user_meta_data ->> 'tenant_id');"
    " return new; end": "",
    "-- raw_user_meta_data is not copied\nbegin new.raw_app_meta_data := '{}'; return new; end": "",
    "declare n text; begin n := new.raw_user_meta_data ->> 'name'; new.raw_app_meta_data := new.raw_app_meta_data ||"
    " jsonb_build_object('name', n); return new; end": "",
    "begin new.raw_user_meta_data := new.raw_user_meta_data - 'tenant_id'; return new; end": "",
    "select (claims -> 'user_metadata' ->> 'tenant_id')": "",
}


@pytest.mark.parametrize("body", CASES)
def test_what_users_edit_does_not_become_a_claim(body: str) -> None:
    function = Function("f()", "f", "public", (), "trigger", "plpgsql", "postgres", body=body)
    assert laundered(function, {"tenant_id", "sub"}) == CASES[body]
