-- Deterministic demo data for the reference schema, made by the server. Runs once: a second run adds nothing.
INSERT INTO auth.users (id, email)
SELECT md5('user' || t || '-' || u)::uuid, format('user%s@tenant%s.example', u, t)
FROM generate_series(1, 4) t, generate_series(1, 5) u
ON CONFLICT DO NOTHING;

INSERT INTO public.tenants (id, slug, name)
SELECT md5('tenant' || n)::uuid, slug, name
FROM (VALUES (1, 'harbour-homes', 'Harbour Homes'), (2, 'northgate', 'Northgate Estates'),
             (3, 'linden', 'Linden Housing'), (4, 'quayside', 'Quayside Living')) v (n, slug, name)
ON CONFLICT DO NOTHING;

INSERT INTO public.tenant_members (tenant_id, user_id, role)
SELECT md5('tenant' || t)::uuid, md5('user' || t || '-' || u)::uuid, CASE u WHEN 1 THEN 'owner' ELSE 'member' END
FROM generate_series(1, 4) t, generate_series(1, 5) u
ON CONFLICT DO NOTHING;

INSERT INTO public.developments (id, tenant_id, name)
SELECT md5('development' || t || '-' || d)::uuid, md5('tenant' || t)::uuid,
       (ARRAY['Mill Court', 'Orchard Rise', 'Station Yard', 'The Maltings'])[d]
FROM generate_series(1, 4) t, generate_series(1, 4) d
ON CONFLICT DO NOTHING;

INSERT INTO public.units (id, tenant_id, development_id, label)
SELECT md5('unit' || t || '-' || d || '-' || u)::uuid, md5('tenant' || t)::uuid,
       md5('development' || t || '-' || d)::uuid, format('Flat %s%s', (u - 1) / 4 + 1, chr(65 + (u - 1) % 4))
FROM generate_series(1, 4) t, generate_series(1, 4) d, generate_series(1, 20) u
ON CONFLICT DO NOTHING;

INSERT INTO public.messages (id, tenant_id, development_id, unit_id, author, body, created_at)
SELECT md5('message' || m)::uuid, md5('tenant' || t)::uuid, md5('development' || t || '-' || d)::uuid,
       md5('unit' || t || '-' || d || '-' || u)::uuid,
       (ARRAY['resident', 'manager', 'contractor'])[m % 3 + 1],
       (ARRAY['The heating is off again.', 'The lift was serviced this morning.', 'Key handed over at reception.',
              'Please confirm the inspection on Tuesday.', 'Water pressure is low on the upper floors.'])[m % 5 + 1],
       timestamptz '2026-01-01' + m * interval '40 minutes'
FROM generate_series(1, 6000) m,
     LATERAL (SELECT m % 4 + 1 AS t, m / 4 % 4 + 1 AS d, m / 16 % 20 + 1 AS u) place
ON CONFLICT DO NOTHING;

INSERT INTO public.onboarding_transactions (id, tenant_id, status, error, started_at, finished_at)
SELECT md5('onboarding' || t)::uuid, md5('tenant' || t)::uuid, 'completed', NULL,
       timestamptz '2025-12-01' + t * interval '1 day', timestamptz '2025-12-01' + t * interval '25 hours'
FROM generate_series(1, 4) t
ON CONFLICT DO NOTHING;
