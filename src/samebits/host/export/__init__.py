"""Runs in the formats that others read. Each module uses its format's library, which `samebits[export]` installs."""
