"""The result of an imputation: completed tables, posterior, events, storage."""
