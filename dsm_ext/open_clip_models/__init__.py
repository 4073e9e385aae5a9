"""OpenCLIP's models: converting their image towers to timm's models."""
