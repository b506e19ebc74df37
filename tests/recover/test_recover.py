"""From the product before hardening, with every kind of corruption, to a hardened one; and back."""

import psycopg
import pytest

from pytest_tenantproof.errors import AuditError
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.recover import Step, apply_plan, plan, undo
from tests.controls.test_falsified import red
from tests.migrate.conftest import Product
from tests.support import reference_settings

CORRUPTION = """
ALTER TABLE public.developments DROP CONSTRAINT developments_tenant_id_fkey;
ALTER TABLE public.units DROP CONSTRAINT units_development_id_fkey;
ALTER TABLE public.messages DROP CONSTRAINT messages_unit_id_fkey;
-- mended: no tenant, a tenant that is gone, another development than its unit's, none
INSERT INTO public.units (id, tenant_id, development_id, label)
VALUES (md5('a')::uuid, NULL, md5('d1')::uuid, 'A'), (md5('b')::uuid, md5('gone')::uuid, md5('d1')::uuid, 'B');
INSERT INTO public.messages (id, tenant_id, development_id, unit_id, author, body)
VALUES (md5('c')::uuid, NULL, NULL, md5('a')::uuid, 'x', 'one'),
       (md5('d')::uuid, md5('t1')::uuid, md5('d2')::uuid, md5('n1')::uuid, 'x', 'two');
-- kept aside: no parent, a parent that is gone, a parent of another tenant, a parent that is kept aside itself
INSERT INTO public.developments (id, tenant_id, name)
VALUES (md5('e')::uuid, NULL, 'E'), (md5('f')::uuid, md5('gone')::uuid, 'F');
INSERT INTO public.units (id, tenant_id, development_id, label)
VALUES (md5('g')::uuid, md5('t1')::uuid, NULL, 'G'), (md5('h')::uuid, md5('t1')::uuid, md5('gone')::uuid, 'H'),
       (md5('i')::uuid, md5('t2')::uuid, md5('d1')::uuid, 'I'), (md5('j')::uuid, md5('t1')::uuid, md5('f')::uuid, 'J');
INSERT INTO public.messages (id, tenant_id, development_id, unit_id, author, body)
VALUES (md5('k')::uuid, md5('t1')::uuid, md5('f')::uuid, md5('j')::uuid, 'x', 'three'),
       (md5('l')::uuid, md5('t2')::uuid, md5('d1')::uuid, md5('n1')::uuid, 'x', 'four'),
       (md5('m')::uuid, md5('t1')::uuid, md5('d1')::uuid, NULL, 'x', 'five'),
       (md5('n')::uuid, md5('t1')::uuid, md5('d1')::uuid, md5('gone')::uuid, 'x', 'six');
INSERT INTO public.tenant_members (tenant_id, user_id)
VALUES (NULL, md5('u1')::uuid), (md5('gone')::uuid, md5('u1')::uuid), (md5('t1')::uuid, md5('gone')::uuid),
       (md5('t1')::uuid, NULL), (md5('t1')::uuid, md5('u1')::uuid);
INSERT INTO public.onboarding_transactions (tenant_id) VALUES (NULL), (md5('gone')::uuid);
"""
REPAIRS, ASIDE = 4, 17


def _rows(steps: list[Step], action: str) -> int:
    return sum(step.rows for step in steps if step.action == action)


def test_from_corruption_to_a_hardened_product(untouched: Product) -> None:
    settings = reference_settings()
    untouched.run(CORRUPTION)
    corrupt = untouched.state()
    with psycopg.connect(untouched.dsn, autocommit=True) as connection:
        before = plan(connection, settings)
        assert (_rows(before, "repair"), _rows(before, "quarantine")) == (REPAIRS, ASIDE), before
        assert untouched.state() == corrupt
        assert apply_plan(connection, settings, "one", batch=2) == []
        assert plan(connection, settings) == []
        kept = connection.execute("SELECT action, count(*) FROM tenantproof.recovered GROUP BY 1 ORDER BY 1").fetchall()
        assert kept == [("quarantine", ASIDE), ("repair", REPAIRS)]
        assert connection.execute("SELECT body FROM public.messages ORDER BY body").fetchall() == [
            ("first",),
            ("one",),
            ("second",),
            ("two",),
        ]
        assert undo(connection, "one") == ASIDE + REPAIRS
        assert untouched.state()[1:] == corrupt[1:]
        with pytest.raises(AuditError, match="undone already"):
            undo(connection, "one")
        assert apply_plan(connection, settings, "two") == []
        apply(untouched.dsn, migrations_folder())
        assert red(connection, settings) == {}
        with pytest.raises(AuditError, match="nothing was undone"):
            undo(connection, "two")
        assert plan(connection, settings) == []


def test_a_run_that_was_cut_short_goes_on(product: Product) -> None:
    product.run(CORRUPTION)
    settings = reference_settings()
    product.run(
        "CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'power cut'; END $$;"
        "CREATE TRIGGER stop BEFORE DELETE ON public.units FOR EACH ROW EXECUTE FUNCTION public.stop()"
    )
    with psycopg.connect(product.dsn, autocommit=True) as connection:
        with pytest.raises(AuditError, match="P0001"):
            apply_plan(connection, settings, "cut")
        done = connection.execute("SELECT count(*) FROM tenantproof.recovered").fetchone()
        assert done is not None
        assert 0 < done[0] < ASIDE + REPAIRS
        connection.execute("DROP TRIGGER stop ON public.units")
        assert apply_plan(connection, settings, "rest") == []
        whole = connection.execute("SELECT count(*) FROM tenantproof.recovered").fetchone()
        assert whole == (ASIDE + REPAIRS,)


def test_a_row_that_others_refer_to_is_not_removed(product: Product) -> None:
    """A cascade would take rows along that nobody kept."""
    product.run(
        "INSERT INTO public.developments (id, tenant_id, name) VALUES (md5('e')::uuid, NULL, 'E');"
        "CREATE TABLE public.plans (development uuid REFERENCES public.developments ON DELETE CASCADE);"
        "INSERT INTO public.plans VALUES (md5('e')::uuid)"
    )
    with psycopg.connect(product.dsn, autocommit=True) as connection:
        left = apply_plan(connection, reference_settings(), "one")
        assert [(step.table, step.rows) for step in left] == [("public.developments", 1)]
        assert connection.execute("SELECT count(*) FROM public.plans").fetchone() == (1,)


def test_a_row_changed_since_stops_the_undo(product: Product) -> None:
    product.run(CORRUPTION)
    with psycopg.connect(product.dsn, autocommit=True) as connection:
        apply_plan(connection, reference_settings(), "one")
        connection.execute("UPDATE public.messages SET body = 'other' WHERE body = 'one'")
        state = product.state()
        with pytest.raises(AuditError, match="changed since"):
            undo(connection, "one")
        assert product.state() == state
