"""Statement, DSSE, timestamp, run log, verify: no psycopg, no pytest."""
