-- What recover changed: the full content of each row before, and after where it stayed.
CREATE SCHEMA IF NOT EXISTS tenantproof;
REVOKE ALL ON SCHEMA tenantproof FROM PUBLIC;
CREATE TABLE IF NOT EXISTS tenantproof.recovered (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text NOT NULL,
    action text NOT NULL CHECK (action IN ('repair', 'quarantine')),
    table_name text NOT NULL,
    reason text NOT NULL,
    content jsonb NOT NULL,
    became jsonb,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    by_role text NOT NULL DEFAULT session_user,
    undone_at timestamptz
);
REVOKE ALL ON tenantproof.recovered FROM PUBLIC;
CREATE INDEX IF NOT EXISTS recovered_run_seq_idx ON tenantproof.recovered (run, seq);
