"""Which keys compare tokens in rotary models, and where a merged token is."""
