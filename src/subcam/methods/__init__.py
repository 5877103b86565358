"""Methods as plug-ins: what one is given and returns, ours, and how a run finds those of others."""
