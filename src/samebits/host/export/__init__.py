"""Runs in the formats that others read. Each module uses the library of its format, which `samebits[export]` installs."""
