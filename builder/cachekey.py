"""The number of the key schema: it goes up when equal keys could mean different results."""

KEY_SCHEMA = 1

# In a key where its step's policy is secret-key=content: ids of secrets, and digests of their
# values that mean something on this machine only.
SECRETS = "secrets"
