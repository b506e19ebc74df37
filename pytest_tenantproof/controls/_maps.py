"""Clauses of the frameworks, by theme. A control names the theme; None says that no clause fits."""

ACCESS = {"SOC2": ["CC6.1"], "ISO27001:2022": ["A.8.3"], "CIS-PG17": ["4.7"], "NIST-800-53": ["AC-3", "AC-4"]}
PRIVILEGE = {
    "SOC2": ["CC6.3"],
    "ISO27001:2022": ["A.5.15", "A.8.2"],
    "CIS-PG17": ["4.3"],
    "NIST-800-53": ["AC-6"],
}
GRANTS = {"SOC2": ["CC6.3"], "ISO27001:2022": ["A.5.15"], "CIS-PG17": ["4.6"], "NIST-800-53": ["AC-6"]}
FUNCTIONS = {"SOC2": ["CC6.1"], "ISO27001:2022": ["A.8.3"], "CIS-PG17": ["4.5"], "NIST-800-53": ["AC-6"]}
SCHEMA = {"SOC2": ["CC6.1"], "ISO27001:2022": ["A.5.15"], "CIS-PG17": ["4.10"], "NIST-800-53": ["AC-6"]}
INTEGRITY = {"SOC2": ["PI1.4"], "ISO27001:2022": ["A.8.26"], "NIST-800-53": ["SI-10"]}
FLOW = {"SOC2": ["CC6.7"], "ISO27001:2022": ["A.8.12"], "NIST-800-53": ["AC-4"]}
CONFIG = {"SOC2": ["CC7.1"], "ISO27001:2022": ["A.8.9"], "CIS-PG17": ["6.2"], "NIST-800-53": ["CM-6"]}
CHANGE = {"SOC2": ["CC8.1"], "ISO27001:2022": ["A.8.32"], "NIST-800-53": ["CM-3"]}
LOGGING = {
    "SOC2": ["CC7.2"],
    "ISO27001:2022": ["A.8.15"],
    "CIS-PG17": ["3.2"],
    "NIST-800-53": ["AU-9", "AU-12"],
}
BACKUP = {"SOC2": ["A1.2"], "ISO27001:2022": ["A.8.13"], "NIST-800-53": ["CP-9"]}
RESTORE = {"SOC2": ["A1.3"], "ISO27001:2022": ["A.8.13", "A.5.30"], "NIST-800-53": ["CP-4", "CP-10"]}
MONITORING = {"SOC2": ["CC7.2"], "ISO27001:2022": ["A.8.16"], "NIST-800-53": ["SI-4"]}
EVIDENCE = {"SOC2": ["CC4.1"], "ISO27001:2022": ["A.5.28"], "NIST-800-53": ["CA-7"]}
