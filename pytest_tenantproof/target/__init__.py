"""Where a run points: live, staging, container, embedded; read-only enforcement."""
