"""Audio files as samples: formats, NIST SPHERE, change of sampling rate."""
